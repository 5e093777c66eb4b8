-- The features of an SAE that stand for one category of texts, best score first; ties go to the
-- higher AUROC. Scores, thresholds and tests are those of `find_specialists`.
CREATE OR REPLACE MACRO ranked_specialists(
    run VARCHAR, sae VARCHAR, in_category VARCHAR, k BIGINT := 20
) AS TABLE
SELECT s.feature_id, s.score, s.n_strong_in, s.n_in, s.n_strong_out, s.n_out, s.rate_in, s.rate_out,
    s.mean_difference, s.auroc, s.log_odds, s.p, s.q, f.max_activation, f.is_dense,
    l.description AS label
FROM specialists AS s
JOIN features AS f ON f.run_id = run AND f.sae_id = sae AND f.feature_id = s.feature_id
LEFT JOIN explanations AS l
    ON l.run_id = run AND l.sae_id = sae AND l.feature_id = s.feature_id AND l.is_label
WHERE s.run_id = run AND s.sae_id = sae AND s.category = in_category
ORDER BY s.score DESC, s.auroc DESC, s.feature_id
LIMIT k;
