-- One feature's EFAS in every variant that was computed, and its correlation with the energy itself.
CREATE OR REPLACE MACRO feature_efas(run VARCHAR, sae VARCHAR, feature BIGINT) AS TABLE
SELECT e.* EXCLUDE (run_id, sae_id, feature_id, within_groups)
FROM efas AS e
WHERE e.run_id = run AND e.sae_id = sae AND e.feature_id = feature
ORDER BY e.variant;
