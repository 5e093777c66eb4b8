-- Clusters of an SAE's features that are active together (phi of at least 0.5 along the chain), the
-- largest first, with their members and the category most of them share.
CREATE OR REPLACE MACRO coactive_clusters(
    run VARCHAR, sae VARCHAR, by_unit VARCHAR := 'token', k BIGINT := 20
) AS TABLE
SELECT c.cluster_id, any_value(c.n_features) AS n_features,
    mode(f.top_category) AS top_category,
    avg((f.top_category = m.top_category)::INTEGER) AS share_of_category,
    sum(f.n_active) AS n_active, list(c.feature_id ORDER BY f.score DESC, c.feature_id) AS members
FROM coactivation_clusters AS c
JOIN features AS f ON f.run_id = run AND f.sae_id = sae AND f.feature_id = c.feature_id
JOIN (
    SELECT d.cluster_id, mode(g.top_category) AS top_category
    FROM coactivation_clusters AS d
    JOIN features AS g ON g.run_id = run AND g.sae_id = sae AND g.feature_id = d.feature_id
    WHERE d.run_id = run AND d.sae_id = sae AND d.unit = by_unit
    GROUP BY d.cluster_id
) AS m ON m.cluster_id = c.cluster_id
WHERE c.run_id = run AND c.sae_id = sae AND c.unit = by_unit
GROUP BY c.cluster_id
ORDER BY c.cluster_id
LIMIT k;
