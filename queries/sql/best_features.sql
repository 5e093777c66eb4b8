-- The features of an SAE by composite score: frequency times mean strength. Features active on
-- more than 10 % of the tokens are marked dense; leave them out with `with_dense := false`.
CREATE OR REPLACE MACRO best_features(
    run VARCHAR, sae VARCHAR, with_dense BOOLEAN := true, k BIGINT := 20
) AS TABLE
SELECT f.feature_id, f.score, f.density, f.mean_activation, f.max_activation, f.is_dense,
    f.top_category
FROM features AS f
WHERE f.run_id = run AND f.sae_id = sae AND f.n_active > 0 AND (with_dense OR NOT f.is_dense)
ORDER BY f.score DESC, f.feature_id
LIMIT k;
