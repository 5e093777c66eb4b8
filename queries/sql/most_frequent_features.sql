-- The features of an SAE that are active on the most tokens.
CREATE OR REPLACE MACRO most_frequent_features(run VARCHAR, sae VARCHAR, k BIGINT := 20) AS TABLE
SELECT f.feature_id, f.density, f.n_active, f.n_texts, f.mean_activation, f.is_dense
FROM features AS f
WHERE f.run_id = run AND f.sae_id = sae AND f.n_active > 0
ORDER BY f.n_active DESC, f.feature_id
LIMIT k;
