-- The features of an SAE whose activation falls into the fewest categories, among those active in
-- at least `min_texts` texts. Selectivity 1 is one category only, 0 is all alike.
CREATE OR REPLACE MACRO most_selective_features(
    run VARCHAR, sae VARCHAR, min_texts BIGINT := 5, k BIGINT := 20
) AS TABLE
SELECT f.feature_id, f.selectivity, f.top_category, f.n_texts, f.n_active, f.mean_activation
FROM features AS f
WHERE f.run_id = run AND f.sae_id = sae AND f.n_texts >= min_texts
ORDER BY f.selectivity DESC NULLS LAST, f.score DESC, f.feature_id
LIMIT k;
