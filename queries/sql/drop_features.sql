-- The features that go with the drop: positive where the blocks after the SAE's place are worth much to
-- the tokens they are active on, negative where little, tested as EFAS is (window and position means
-- off, clustered by text).
CREATE OR REPLACE MACRO drop_features(
    run VARCHAR, sae VARCHAR, is_high BOOLEAN := true, k BIGINT := 20
) AS TABLE
SELECT e.feature_id, e.efas AS correlation, e.smd, e.t, e.p, e.q, e.n_active, f.top_category,
    f.mean_activation, f.is_dense
FROM efas AS e
JOIN features AS f ON f.run_id = run AND f.sae_id = sae AND f.feature_id = e.feature_id
WHERE e.run_id = run AND e.sae_id = sae AND e.variant = 'drop' AND e.t IS NOT NULL
ORDER BY CASE WHEN is_high THEN -e.t ELSE e.t END, e.feature_id
LIMIT k;
