-- The links of one node of an attribution graph, first those that come in, then those that go out,
-- each by weight: the other node, the weight, and which part of its target's input it is (`part`). A
-- name that several nodes go by gives the links of all of them, marked.
CREATE OR REPLACE MACRO node_links(graph VARCHAR, at_node VARCHAR, k BIGINT := 100) AS TABLE
WITH both_ways AS (
    SELECT 'in' AS direction, l.source_id AS node_id, l.source AS number, l.weight, l.share,
        l.is_ambiguous, l.is_nowhere, l.number AS place
    FROM graph_links AS l
    WHERE l.graph_id = graph AND l.target_id = at_node
    UNION ALL
    SELECT 'out', l.target_id, l.target, l.weight, l.share, l.is_ambiguous, l.is_nowhere, l.number
    FROM graph_links AS l
    WHERE l.graph_id = graph AND l.source_id = at_node
),
strongest AS (
    SELECT *
    FROM both_ways AS b
    QUALIFY row_number() OVER (PARTITION BY b.direction ORDER BY abs(b.weight) DESC, b.place) <= k
)
SELECT s.direction, s.node_id, s.weight, s.share AS part, n.node_type, n.layer, n.pos,
    g.tokens[n.pos + 1] AS token, n.feature_id,
    coalesce(e.description, nullif(n.label, '')) AS label, s.is_ambiguous, s.is_nowhere, n.run_id,
    n.sae_id
FROM strongest AS s
JOIN graphs AS g ON g.graph_id = graph
LEFT JOIN graph_nodes AS n ON n.graph_id = graph AND n.number = s.number
LEFT JOIN explanations AS e
    ON e.run_id = n.run_id AND e.sae_id = n.sae_id AND e.feature_id = n.feature_id AND e.is_label
ORDER BY s.direction, abs(s.weight) DESC, s.place;
