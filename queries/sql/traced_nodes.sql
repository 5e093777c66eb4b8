-- The nodes of one attribution graph, those that most of the logits comes through first: their token,
-- what the file or a run calls them, how their feature goes with the energy of tokens
-- (`energy_correlation`: above 0 where it is active on hard ones), and the groups they are in.
CREATE OR REPLACE MACRO traced_nodes(graph VARCHAR, k BIGINT := 100000) AS TABLE
WITH grouped AS (
    SELECT s.node_id, list(s.name ORDER BY s.number) AS supernodes
    FROM graph_supernodes AS s
    WHERE s.graph_id = graph
    GROUP BY s.node_id
)
SELECT n.number, n.node_id, n.node_type, n.layer, n.pos, g.tokens[n.pos + 1] AS token, n.feature_id,
    n.share, n.activation, n.token_prob, coalesce(l.description, nullif(n.label, '')) AS label,
    e.efas AS energy_correlation, s.supernodes, n.is_target_logit, n.is_ambiguous, n.run_id, n.sae_id
FROM graph_nodes AS n
JOIN graphs AS g ON g.graph_id = n.graph_id
LEFT JOIN grouped AS s ON s.node_id = n.node_id
LEFT JOIN explanations AS l
    ON l.run_id = n.run_id AND l.sae_id = n.sae_id AND l.feature_id = n.feature_id AND l.is_label
LEFT JOIN efas AS e
    ON e.run_id = n.run_id AND e.sae_id = n.sae_id AND e.feature_id = n.feature_id
    AND e.variant = 'energy'
WHERE n.graph_id = graph
ORDER BY n.share DESC NULLS LAST, n.number
LIMIT k;
