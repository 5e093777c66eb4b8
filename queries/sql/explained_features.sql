-- Features whose explanation matches a regular expression, whatever the case, with what the index
-- knows of them; the best scored first. NULL for the SAE means all SAEs of the run.
CREATE OR REPLACE MACRO explained_features(
    run VARCHAR, pattern VARCHAR := '', in_sae VARCHAR := NULL, k BIGINT := 1000
) AS TABLE
SELECT e.sae_id, e.feature_id, e.description, e.model, e.score, f.n_active, f.max_activation,
    f.top_category
FROM explanations AS e
LEFT JOIN features AS f USING (run_id, sae_id, feature_id)
WHERE e.run_id = run AND (in_sae IS NULL OR e.sae_id = in_sae)
    AND regexp_matches(e.description, pattern, 'i')
ORDER BY e.score DESC NULLS LAST, e.sae_id, e.feature_id, e.description
LIMIT k;
