-- Energy barriers: tokens whose energy is higher than that of both neighbours and stands out of its
-- context by at least `min_z` standard deviations, the highest above its context first.
CREATE OR REPLACE MACRO barrier_tokens(
    run VARCHAR, in_category VARCHAR := NULL, min_z DOUBLE := 2.0, k BIGINT := 20
) AS TABLE
WITH placed AS (
    SELECT t.token_index, t.context_id, t.pos, t.token, t.energy, t.entropy, t.rank, x.category,
        x.text_id, lag(t.energy) OVER along AS before, lead(t.energy) OVER along AS after,
        lead(t.token) OVER along AS next_token,
        avg(t.energy) OVER whole AS mean_energy, stddev_pop(t.energy) OVER whole AS spread
    FROM tokens AS t
    JOIN contexts AS c ON c.run_id = run AND c.context_id = t.context_id
    LEFT JOIN texts AS x ON x.run_id = run AND x.text_id = c.text_id
    WHERE t.run_id = run AND NOT t.is_masked AND (in_category IS NULL OR x.category = in_category)
    WINDOW along AS (PARTITION BY t.context_id ORDER BY t.pos),
        whole AS (PARTITION BY t.context_id)
)
SELECT p.token_index, p.context_id, p.text_id, p.pos, p.category, p.token, p.next_token, p.energy,
    (p.energy - p.mean_energy) / p.spread AS z, p.before AS energy_before,
    p.after AS energy_after, p.entropy, p.rank
FROM placed AS p
WHERE p.spread > 0 AND p.energy > coalesce(p.before, -1) AND p.energy > coalesce(p.after, -1)
    AND (p.energy - p.mean_energy) / p.spread >= min_z
ORDER BY z DESC, p.token_index
LIMIT k;
