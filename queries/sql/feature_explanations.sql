-- The explanations of one feature that were read into the store, the one that is its label first.
CREATE OR REPLACE MACRO feature_explanations(run VARCHAR, sae VARCHAR, feature BIGINT) AS TABLE
SELECT e.description, e.method, e.model, e.score, e.score_type, e.is_label
FROM explanations AS e
WHERE e.run_id = run AND e.sae_id = sae AND e.feature_id = feature
ORDER BY e.is_label DESC, e.score DESC NULLS LAST, e.description;
