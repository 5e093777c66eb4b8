-- One feature held against every feature of any other SAE of the run: correlation of activations over
-- all tokens that are not masked.
CREATE OR REPLACE MACRO matching_features(
    run VARCHAR, sae VARCHAR, feature BIGINT, other_sae VARCHAR, k BIGINT := 10
) AS TABLE
WITH kept AS (
    SELECT t.token_index FROM tokens AS t WHERE t.run_id = run AND NOT t.is_masked
),
whole AS (
    SELECT count(*)::DOUBLE AS n FROM kept
),
own AS (
    SELECT c.token_index, c.activation::DOUBLE AS z
    FROM feature_codes AS c
    SEMI JOIN kept AS h ON h.token_index = c.token_index
    WHERE c.run_id = run AND c.sae_id = sae AND c.feature_id = feature
),
mine AS (
    SELECT sum(o.z) AS s, sum(o.z * o.z) AS ss FROM own AS o
),
theirs AS (
    SELECT c.feature_id, sum(c.activation::DOUBLE) AS s, sum(c.activation::DOUBLE ** 2) AS ss,
        sum(c.activation * coalesce(o.z, 0)) AS dot, count(o.z) AS n_both
    FROM feature_codes AS c
    SEMI JOIN kept AS h ON h.token_index = c.token_index
    LEFT JOIN own AS o ON o.token_index = c.token_index
    WHERE c.run_id = run AND c.sae_id = other_sae
    GROUP BY c.feature_id
)
SELECT t.feature_id AS other_feature_id,
    (t.dot / w.n - m.s * t.s / w.n ** 2) / nullif(
        sqrt((m.ss / w.n - (m.s / w.n) ** 2) * (t.ss / w.n - (t.s / w.n) ** 2)), 0
    ) AS correlation, t.n_both, f.n_active, f.top_category
FROM theirs AS t
CROSS JOIN mine AS m
CROSS JOIN whole AS w
JOIN features AS f ON f.run_id = run AND f.sae_id = other_sae AND f.feature_id = t.feature_id
WHERE t.n_both > 0
ORDER BY correlation DESC, t.feature_id
LIMIT k;
