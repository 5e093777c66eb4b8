-- The attribution graphs of the store, by their names: the prompt, the logit that each was traced for
-- (else the likeliest), how large it is, how much it leaves unexplained (`error_share`), and how many
-- of its features a run knows.
CREATE OR REPLACE MACRO graph_list(k BIGINT := 10000) AS TABLE
WITH ends AS (
    SELECT n.graph_id, n.label AS logit, n.token_prob
    FROM graph_nodes AS n
    WHERE n.node_type = 'logit'
    QUALIFY row_number() OVER (
        PARTITION BY n.graph_id ORDER BY n.is_target_logit DESC, n.token_prob DESC, n.number
    ) = 1
),
known AS (
    SELECT n.graph_id, count(*) AS n_joined
    FROM graph_nodes AS n
    WHERE n.sae_id IS NOT NULL
    GROUP BY n.graph_id
),
grouped AS (
    SELECT s.graph_id, count(DISTINCT s.number) AS n_supernodes
    FROM graph_supernodes AS s
    GROUP BY s.graph_id
)
SELECT g.graph_id, g.prompt, e.logit, e.token_prob, g.n_features, g.n_nodes, g.n_links,
    g.error_share, coalesce(o.n_joined, 0) AS n_joined, coalesce(s.n_supernodes, 0) AS n_supernodes,
    g.n_ambiguous, g.n_nowhere, g.scan, g.source_set, g.created
FROM graphs AS g
LEFT JOIN ends AS e ON e.graph_id = g.graph_id
LEFT JOIN known AS o ON o.graph_id = g.graph_id
LEFT JOIN grouped AS s ON s.graph_id = g.graph_id
ORDER BY g.graph_id
LIMIT k;
