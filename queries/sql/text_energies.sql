-- The tokens of one text in order, with the energy of the next token at the model's output and
-- under the lens at one layer (NULL takes the output again).
CREATE OR REPLACE MACRO text_energies(
    run VARCHAR, in_text BIGINT, at_layer BIGINT := NULL
) AS TABLE
SELECT t.token_index, t.context_id, t.pos, t.token, t.is_special, t.energy, t.entropy,
    t.confidence, t.rank,
    CASE WHEN at_layer IS NULL THEN t.energy ELSE e.energy END AS lens_energy
FROM contexts AS c
JOIN tokens AS t ON t.run_id = run AND t.context_id = c.context_id
LEFT JOIN energies AS e
    ON e.run_id = run AND e.token_index = t.token_index AND e.layer = at_layer
WHERE c.run_id = run AND c.text_id = in_text
ORDER BY t.token_index;
