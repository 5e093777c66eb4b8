-- The features of an SAE with the highest activation on any token that is not masked.
CREATE OR REPLACE MACRO strongest_features(run VARCHAR, sae VARCHAR, k BIGINT := 20) AS TABLE
SELECT f.feature_id, f.max_activation, f.mean_activation, f.density, f.n_active, f.top_category
FROM features AS f
WHERE f.run_id = run AND f.sae_id = sae AND f.n_active > 0
ORDER BY f.max_activation DESC, f.feature_id
LIMIT k;
