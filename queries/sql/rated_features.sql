-- Features that people have rated by the rubric of Towards Monosemanticity, the best first: the mean of
-- each scale over raters, their sum (14 at most), and how many raters there are.
CREATE OR REPLACE MACRO rated_features(run VARCHAR, in_sae VARCHAR := NULL) AS TABLE
SELECT r.sae_id, r.feature_id, count(*) AS n_raters, avg(r.confidence) AS confidence,
    avg(r.consistency) AS consistency, avg(r.completeness) AS completeness,
    avg(r.specificity) AS specificity,
    avg(r.confidence + r.consistency + r.completeness + r.specificity) AS total,
    list(r.rater ORDER BY r.rater) AS raters, any_value(l.description) AS label
FROM ratings AS r
LEFT JOIN explanations AS l
    ON l.run_id = run AND l.sae_id = r.sae_id AND l.feature_id = r.feature_id AND l.is_label
WHERE r.run_id = run AND (in_sae IS NULL OR r.sae_id = in_sae)
GROUP BY r.sae_id, r.feature_id
ORDER BY total DESC, r.sae_id, r.feature_id;
