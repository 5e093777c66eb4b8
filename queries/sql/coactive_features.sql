-- The features active on the most tokens that one feature is active on, masked ones included.
-- Lift 1 is what independent features would show; Jaccard is shared tokens over tokens of either.
CREATE OR REPLACE MACRO coactive_features(
    run VARCHAR, sae VARCHAR, feature BIGINT, k BIGINT := 20
) AS TABLE
WITH own AS (
    SELECT c.token_index
    FROM feature_codes AS c
    WHERE c.run_id = run AND c.sae_id = sae AND c.feature_id = feature
),
shared AS (
    SELECT c.feature_id, count(*) AS n_both
    FROM feature_codes AS c
    SEMI JOIN own AS o ON o.token_index = c.token_index
    WHERE c.run_id = run AND c.sae_id = sae AND c.feature_id <> feature
    GROUP BY c.feature_id
),
sizes AS (
    SELECT (SELECT count(*) FROM own) AS n_own,
        (SELECT sum(c.n_tokens) FROM contexts AS c WHERE c.run_id = run) AS n_tokens
)
SELECT s.feature_id, s.n_both, f.n_active_unmasked AS n_partner,
    s.n_both / (z.n_own + f.n_active_unmasked - s.n_both) AS jaccard,
    s.n_both * z.n_tokens / (z.n_own * f.n_active_unmasked) AS lift,
    f.is_dense, f.top_category
FROM shared AS s
CROSS JOIN sizes AS z
JOIN features AS f ON f.run_id = run AND f.sae_id = sae AND f.feature_id = s.feature_id
ORDER BY jaccard DESC, s.feature_id
LIMIT k;
