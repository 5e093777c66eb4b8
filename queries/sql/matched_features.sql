-- The stored matches of an SAE's features in a neighbouring SAE, the best of each feature, the highest
-- correlation of activations first.
CREATE OR REPLACE MACRO matched_features(
    run VARCHAR, sae VARCHAR, other_sae VARCHAR := NULL, k BIGINT := 20
) AS TABLE
SELECT m.feature_id, m.other_sae_id, m.other_feature_id, m.correlation, m.cosine,
    f.top_category, g.top_category AS other_category
FROM feature_matches AS m
JOIN features AS f ON f.run_id = run AND f.sae_id = sae AND f.feature_id = m.feature_id
JOIN features AS g ON g.run_id = run AND g.sae_id = m.other_sae_id
    AND g.feature_id = m.other_feature_id
WHERE m.run_id = run AND m.sae_id = sae AND m.rank = 0
    AND (other_sae IS NULL OR m.other_sae_id = other_sae)
ORDER BY m.correlation DESC, m.feature_id, m.other_sae_id
LIMIT k;
