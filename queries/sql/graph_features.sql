-- The features of all attribution graphs, those in most graphs first: in how many graphs they are, at
-- how many places, what of the logits comes through them in all graphs together (`total_share`), and
-- on which prompts. Numbers of features are compared within one model and one set of dictionaries.
CREATE OR REPLACE MACRO graph_features(min_graphs BIGINT := 1, k BIGINT := 100) AS TABLE
WITH found AS (
    SELECT g.scan, g.source_set, n.layer, n.feature_id, count(DISTINCT n.graph_id) AS n_graphs,
        count(*) AS n_nodes, sum(n.share) AS total_share,
        list(DISTINCT g.prompt ORDER BY g.prompt) AS prompts,
        max(n.run_id) AS run_id, arg_max(n.sae_id, n.run_id) AS sae_id
    FROM graph_nodes AS n
    JOIN graphs AS g ON g.graph_id = n.graph_id
    WHERE n.node_type = 'feature'
    GROUP BY g.scan, g.source_set, n.layer, n.feature_id
)
SELECT d.layer, d.feature_id, d.n_graphs, d.n_nodes, d.total_share, l.description AS label,
    f.density, f.top_category, d.prompts, d.run_id, d.sae_id, d.scan, d.source_set
FROM found AS d
LEFT JOIN features AS f
    ON f.run_id = d.run_id AND f.sae_id = d.sae_id AND f.feature_id = d.feature_id
LEFT JOIN explanations AS l
    ON l.run_id = d.run_id AND l.sae_id = d.sae_id AND l.feature_id = d.feature_id AND l.is_label
WHERE d.n_graphs >= min_graphs
ORDER BY d.n_graphs DESC, d.total_share DESC NULLS LAST, d.layer, d.feature_id, d.scan, d.source_set
LIMIT k;
