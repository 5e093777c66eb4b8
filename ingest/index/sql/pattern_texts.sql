-- Texts that patterns are learned from (half 0) and scored on (half 1), drawn by their numbers; of
-- the latter, those whose silent tokens are looked at.
CREATE OR REPLACE TEMP TABLE pattern_texts AS
WITH drawn AS (
    SELECT x.text_id, x.category, x.n_tokens, (x.text_id * 2654435761) % 4294967296 AS draw
    FROM run_texts AS x
),
taken AS (
    SELECT
        d.*,
        (d.draw >> 13) % 2 AS half,
        sum(d.n_tokens) OVER (ORDER BY d.draw, d.text_id) - d.n_tokens AS n_before
    FROM drawn AS d
)
SELECT
    t.text_id,
    t.half,
    t.n_tokens,
    t.category,
    dense_rank() OVER (ORDER BY t.category) AS category_id,
    t.half = 1
    AND row_number() OVER (PARTITION BY t.half ORDER BY t.draw, t.text_id) <= $most_silent
        AS is_silent
FROM taken AS t
WHERE t.n_before < $most_tokens;
