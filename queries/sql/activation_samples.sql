-- Tokens of one feature from intervals of its activation, all of equal width, the strongest one
-- first: what it is active on when it is not at its strongest. Which tokens is settled by a hash of
-- their numbers, so that asking again gives the same. Masked tokens are left out unless asked for.
CREATE OR REPLACE MACRO activation_samples(
    run VARCHAR, sae VARCHAR, feature BIGINT, n_intervals BIGINT := 5, k BIGINT := 2,
    with_special BOOLEAN := false, with_first BOOLEAN := false, with_sinks BOOLEAN := false
) AS TABLE
WITH own AS (
    SELECT c.token_index, c.activation, t.context_id
    FROM feature_codes AS c
    JOIN tokens AS t ON t.run_id = run AND t.token_index = c.token_index
    WHERE c.run_id = run AND c.sae_id = sae AND c.feature_id = feature
        AND (with_special OR NOT t.is_special)
        AND (with_first OR NOT t.is_first) AND (with_sinks OR NOT t.is_sink)
),
shape AS (
    SELECT min(o.activation)::DOUBLE AS low,
        max(o.activation)::DOUBLE - min(o.activation)::DOUBLE AS spread
    FROM own AS o
),
sized AS (
    SELECT s.low, s.spread / n_intervals AS width FROM shape AS s
),
placed AS (
    SELECT o.*, s.low, s.width,
        CASE WHEN s.width > 0 THEN least(floor((o.activation - s.low) / s.width), n_intervals - 1)
            ELSE 0 END::BIGINT AS interval_id
    FROM own AS o, sized AS s
),
drawn AS (
    SELECT p.*, count(*) OVER (PARTITION BY p.interval_id) AS n_tokens,
        row_number() OVER (
            PARTITION BY p.interval_id ORDER BY hash(p.token_index), p.token_index
        ) - 1 AS rank
    FROM placed AS p
)
SELECT d.interval_id, d.low + d.interval_id * d.width AS interval_low,
    d.low + (d.interval_id + 1) * d.width AS interval_high, d.n_tokens, d.rank, d.activation,
    d.context_id, d.token_index, c.text_id, x.category
FROM drawn AS d
JOIN contexts AS c ON c.run_id = run AND c.context_id = d.context_id
LEFT JOIN texts AS x ON x.run_id = run AND x.text_id = c.text_id
WHERE d.rank < k
ORDER BY d.interval_id DESC, d.rank;
