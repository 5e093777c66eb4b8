-- Explanations with every score that is known of them, the best first: what it measures, who judged,
-- its bounds over texts where it was measured here, and from how many contexts of how many texts.
-- NULL for the SAE means all SAEs of the run, NULL for the feature all features.
CREATE OR REPLACE MACRO scored_explanations(
    run VARCHAR, in_sae VARCHAR := NULL, feature BIGINT := NULL, k BIGINT := 1000
) AS TABLE
SELECT s.sae_id, s.feature_id, s.description, s.method, s.model, s.score_type, s.judge, s.score,
    s.score_low, s.score_high, s.n_active, s.n_silent, s.n_texts, s.n_unanswered
FROM explanation_scores AS s
WHERE s.run_id = run AND (in_sae IS NULL OR s.sae_id = in_sae)
    AND (feature IS NULL OR s.feature_id = feature)
ORDER BY s.score_type, s.score DESC NULLS LAST, s.sae_id, s.feature_id, s.description
LIMIT k;
