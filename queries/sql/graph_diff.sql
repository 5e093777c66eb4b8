-- What two attribution graphs share and do not, feature by feature: first those that both have, by what
-- of the logits comes through them in both; then those of one alone. Numbers of features can only be
-- compared where both graphs are of one model and one set of dictionaries.
CREATE OR REPLACE MACRO graph_diff(
    graph VARCHAR, other_graph VARCHAR, k BIGINT := 1000
) AS TABLE
WITH sides AS (
    SELECT n.graph_id = graph AS is_first, n.layer, n.feature_id, sum(n.share) AS share,
        list(DISTINCT n.pos ORDER BY n.pos) AS places, max(n.run_id) AS run_id,
        arg_max(n.sae_id, n.run_id) AS sae_id
    FROM graph_nodes AS n
    WHERE n.graph_id IN (graph, other_graph) AND n.node_type = 'feature'
    GROUP BY ALL
),
two AS (
    SELECT coalesce(a.layer, b.layer) AS layer, coalesce(a.feature_id, b.feature_id) AS feature_id,
        CASE WHEN b.layer IS NULL THEN 'first' WHEN a.layer IS NULL THEN 'second' ELSE 'both' END
            AS found_in,
        a.share AS share_first, b.share AS share_second, a.places AS places_first,
        b.places AS places_second, coalesce(a.run_id, b.run_id) AS run_id,
        coalesce(a.sae_id, b.sae_id) AS sae_id
    FROM (SELECT * FROM sides AS s WHERE s.is_first) AS a
    FULL JOIN (SELECT * FROM sides AS s WHERE NOT s.is_first) AS b
        ON b.layer = a.layer AND b.feature_id = a.feature_id
)
SELECT t.layer, t.feature_id, t.found_in, t.share_first, t.share_second, t.places_first,
    t.places_second, l.description AS label, t.run_id, t.sae_id
FROM two AS t
LEFT JOIN explanations AS l
    ON l.run_id = t.run_id AND l.sae_id = t.sae_id AND l.feature_id = t.feature_id AND l.is_label
ORDER BY t.found_in, coalesce(t.share_first, 0) + coalesce(t.share_second, 0) DESC, t.layer,
    t.feature_id
LIMIT k;
