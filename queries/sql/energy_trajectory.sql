-- The energies of one text's tokens after every layer, with the lens's likeliest next token: the rows
-- of an energy landscape.
CREATE OR REPLACE MACRO energy_trajectory(run VARCHAR, in_text BIGINT) AS TABLE
SELECT t.token_index, t.context_id, t.pos, t.token, t.is_masked, e.layer, e.energy, e.entropy,
    e.rank, e.top_vocab_id
FROM contexts AS c
JOIN tokens AS t ON t.run_id = run AND t.context_id = c.context_id
JOIN energies AS e ON e.run_id = run AND e.token_index = t.token_index
WHERE c.run_id = run AND c.text_id = in_text
ORDER BY t.token_index, e.layer;
