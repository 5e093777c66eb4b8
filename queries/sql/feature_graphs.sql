-- Where one feature of a run stands in attribution graphs that are joined to the run: the graph, the
-- token, its activation there, and what of the logits comes through it.
CREATE OR REPLACE MACRO feature_graphs(
    run VARCHAR, sae VARCHAR, feature BIGINT, k BIGINT := 100
) AS TABLE
SELECT n.graph_id, g.prompt, n.node_id, n.pos, g.tokens[n.pos + 1] AS token, n.activation, n.share
FROM graph_nodes AS n
JOIN graphs AS g ON g.graph_id = n.graph_id
WHERE n.run_id = run AND n.sae_id = sae AND n.feature_id = feature
ORDER BY n.share DESC NULLS LAST, n.graph_id, n.number
LIMIT k;
