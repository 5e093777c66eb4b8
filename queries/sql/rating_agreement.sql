-- How far two people agree who have rated the same features, scale by scale: the mean difference (the
-- second less the first), the mean absolute difference, the share of equal ratings, and Cohen's kappa
-- with quadratic weights (Cohen 1968): 1 is agreement, 0 what independent ratings of the same
-- frequencies would have; NULL where neither varies.
CREATE OR REPLACE MACRO rating_agreement(run VARCHAR, in_sae VARCHAR := NULL) AS TABLE
WITH scaled AS (
    UNPIVOT (
        SELECT r.sae_id, r.feature_id, r.rater, r.confidence, r.consistency, r.completeness,
            r.specificity,
            (r.confidence + r.consistency + r.completeness + r.specificity)::SMALLINT AS total
        FROM ratings AS r
        WHERE r.run_id = run AND (in_sae IS NULL OR r.sae_id = in_sae)
    )
    ON confidence, consistency, completeness, specificity, total
    INTO NAME scale VALUE rating
)
SELECT a.rater, b.rater AS other_rater, a.scale, count(*) AS n_features,
    avg(b.rating - a.rating) AS mean_difference,
    avg(abs(b.rating - a.rating)) AS mean_absolute_difference,
    avg((a.rating = b.rating)::INTEGER) AS share_equal,
    1 - avg((b.rating - a.rating) ** 2) / nullif(
        var_pop(a.rating) + var_pop(b.rating) + (avg(b.rating) - avg(a.rating)) ** 2, 0
    ) AS weighted_kappa
FROM scaled AS a
JOIN scaled AS b
    ON b.sae_id = a.sae_id AND b.feature_id = a.feature_id AND b.scale = a.scale
    AND b.rater > a.rater
GROUP BY a.rater, b.rater, a.scale
ORDER BY a.rater, b.rater, a.scale;
