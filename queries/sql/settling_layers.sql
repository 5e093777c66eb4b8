-- Where the energy of a text's tokens settles: the layer from which the lens's likeliest next token no
-- longer changes, and whether it settles on the true one.
CREATE OR REPLACE MACRO settling_layers(run VARCHAR, in_text BIGINT) AS TABLE
WITH own AS (
    SELECT t.token_index, t.context_id, t.pos, t.token, t.energy, t.rank
    FROM contexts AS c
    JOIN tokens AS t ON t.run_id = run AND t.context_id = c.context_id
    WHERE c.run_id = run AND c.text_id = in_text
),
read AS (
    SELECT e.token_index, e.layer, e.energy, e.top_vocab_id,
        last_value(e.top_vocab_id) OVER layers AS final_id
    FROM energies AS e
    JOIN own AS o ON o.token_index = e.token_index
    WHERE e.run_id = run
    WINDOW layers AS (
        PARTITION BY e.token_index ORDER BY e.layer
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
),
settled AS (
    SELECT r.token_index, min(r.layer) AS first_layer,
        max(r.layer) FILTER (r.top_vocab_id <> r.final_id) AS last_change,
        arg_min(r.energy, r.layer) AS first_energy, any_value(r.final_id) AS final_id
    FROM read AS r
    GROUP BY r.token_index
)
SELECT o.token_index, o.context_id, o.pos, o.token,
    coalesce(s.last_change + 1, s.first_layer) AS settling_layer, s.final_id AS top_vocab_id,
    o.rank = 0 AS is_right, s.first_energy, o.energy
FROM own AS o
JOIN settled AS s ON s.token_index = o.token_index
ORDER BY o.token_index;
