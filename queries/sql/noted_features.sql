-- Features that somebody starred or wrote a note about, starred ones first, with what the index
-- knows of them. NULL for the SAE means all SAEs of the run.
CREATE OR REPLACE MACRO noted_features(run VARCHAR, in_sae VARCHAR := NULL) AS TABLE
SELECT n.sae_id, n.feature_id, n.is_starred, n.note, f.n_active, f.max_activation, f.top_category,
    n.changed, n.author
FROM notes AS n
LEFT JOIN features AS f USING (run_id, sae_id, feature_id)
WHERE n.run_id = run AND (n.is_starred OR n.note IS NOT NULL) AND (in_sae IS NULL OR n.sae_id = in_sae)
ORDER BY n.is_starred DESC, n.sae_id, n.feature_id;
