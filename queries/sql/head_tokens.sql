-- Where one head looks: the strongest pair of each of its strongest contexts, with the text around
-- the token that looks.
CREATE OR REPLACE MACRO head_tokens(
    run VARCHAR, from_layer BIGINT, at_head BIGINT, k BIGINT := 20
) AS TABLE
SELECT p.rank, s.token AS source, t.token, t.pos - s.pos AS distance, p.attention, p.strength,
    x.category, c.text_id, t.context_id, t.token_index, s.token_index AS source_index,
    substr(x.text, greatest(t.char_start - 60, 0) + 1, t.char_start - greatest(t.char_start - 60, 0))
        AS text_before,
    substr(x.text, t.char_end + 1, 30) AS text_after
FROM head_pairs AS p
JOIN tokens AS t ON t.run_id = run AND t.token_index = p.token_index
JOIN tokens AS s ON s.run_id = run AND s.token_index = p.source_index
JOIN contexts AS c ON c.run_id = run AND c.context_id = t.context_id
LEFT JOIN texts AS x ON x.run_id = run AND x.text_id = c.text_id
WHERE p.run_id = run AND p.layer = from_layer AND p.head = at_head
ORDER BY p.rank
LIMIT k;
