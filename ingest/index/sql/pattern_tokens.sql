-- What stands at, before and after each token, as numbers, in the order of the slots; -1 is nothing.
CREATE OR REPLACE TEMP TABLE pattern_tokens AS
WITH classes AS (
    SELECT v.vocab_id, dense_rank() OVER (ORDER BY v.class) AS class_id
    FROM pattern_vocabulary AS v
)
SELECT
    t.token_index,
    t.text_id,
    x.half,
    x.is_silent,
    [
        o.vocab_id::BIGINT,
        c.class_id,
        coalesce(b.vocab_id, -1),
        coalesce(b.vocab_id * 4294967296 + o.vocab_id, -1),
        coalesce(a.vocab_id, -1),
        CASE WHEN o.pos < 8 THEN 8 WHEN o.pos < 32 THEN 32 WHEN o.pos < 128 THEN 128 ELSE -1 END,
        CASE WHEN x.category IS NULL THEN -1 ELSE x.category_id END
    ] AS slots
FROM run_tokens AS t
JOIN pattern_texts AS x ON x.text_id = t.text_id
JOIN tokens AS o ON o.run_id = $run_id AND o.token_index = t.token_index
JOIN classes AS c ON c.vocab_id = o.vocab_id
LEFT JOIN tokens AS b
    ON b.run_id = $run_id AND b.token_index = t.token_index - 1 AND b.context_id = t.context_id
LEFT JOIN tokens AS a
    ON a.run_id = $run_id AND a.token_index = t.token_index + 1 AND a.context_id = t.context_id
WHERE NOT t.is_masked;
