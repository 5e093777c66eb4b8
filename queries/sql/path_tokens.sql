-- Example tokens of a routing circuit, with the text around them.
CREATE OR REPLACE MACRO path_tokens(
    run VARCHAR, from_layer BIGINT, of_choices BIGINT[]
) AS TABLE
WITH example AS (
    SELECT unnest(r.example_tokens) AS token_index
    FROM routing_circuits AS r
    WHERE r.run_id = run AND r.first_layer = from_layer AND r.choices = of_choices::SMALLINT[]
)
SELECT t.token_index, t.context_id, x.text_id, x.category,
    substr(x.text, greatest(t.char_start - 30, 0) + 1, t.char_start - greatest(t.char_start - 30, 0))
        AS text_before,
    t.token, substr(x.text, t.char_end + 1, 30) AS text_after, t.energy
FROM example AS e
JOIN tokens AS t ON t.run_id = run AND t.token_index = e.token_index
JOIN contexts AS c ON c.run_id = run AND c.context_id = t.context_id
LEFT JOIN texts AS x ON x.run_id = run AND x.text_id = c.text_id
ORDER BY t.token_index;
