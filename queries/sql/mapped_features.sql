-- Where every feature of an SAE lies on its map (`feature_map`), with what maps are coloured by: how
-- often it is active, the category it stands for (`specialist`: of those with q at or under 0.05 the
-- one of the highest score, of equal ones the higher AUROC), EFAS (`within`, by the lens) and whether
-- it has a label. The most active features come first.
CREATE OR REPLACE MACRO mapped_features(run VARCHAR, sae VARCHAR) AS TABLE
WITH stands_for AS (
    SELECT s.feature_id, arg_max(s.category, (s.score, s.auroc, s.category)) AS specialist
    FROM specialists AS s
    WHERE s.run_id = run AND s.sae_id = sae AND s.q <= 0.05 AND s.score > 0
    GROUP BY s.feature_id
)
SELECT m.feature_id, m.x, m.y, f.n_active, f.density, f.top_category, s.specialist,
    e.within, e.q AS q, l.feature_id IS NOT NULL AS is_labelled, m.method, m.x_share, m.y_share
FROM feature_map AS m
JOIN features AS f ON f.run_id = run AND f.sae_id = sae AND f.feature_id = m.feature_id
LEFT JOIN stands_for AS s ON s.feature_id = m.feature_id
LEFT JOIN efas AS e ON e.run_id = run AND e.sae_id = sae AND e.variant = 'lens'
    AND e.feature_id = m.feature_id
LEFT JOIN explanations AS l ON l.run_id = run AND l.sae_id = sae AND l.is_label
    AND l.feature_id = m.feature_id
WHERE m.run_id = run AND m.sae_id = sae
ORDER BY f.n_active DESC, m.feature_id;
