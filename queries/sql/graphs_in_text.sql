-- The attribution graphs whose features fire in a text of a run: how many of a graph's features the run
-- knows, how many of them are active in the text (on tokens that are not masked), and what of the
-- graph's logits comes through those (`active_share`). Graphs are joined to runs when they are taken in.
CREATE OR REPLACE MACRO graphs_in_text(run VARCHAR, in_text BIGINT, k BIGINT := 20) AS TABLE
WITH known AS (
    SELECT n.graph_id, n.sae_id, n.feature_id, sum(n.share) AS share
    FROM graph_nodes AS n
    WHERE n.run_id = run AND n.sae_id IS NOT NULL
    GROUP BY n.graph_id, n.sae_id, n.feature_id
),
active AS (
    SELECT f.sae_id, f.feature_id, f.max_activation
    FROM feature_texts AS f
    WHERE f.run_id = run AND f.text_id = in_text
)
SELECT o.graph_id, any_value(g.prompt) AS prompt, count(*) AS n_joined,
    count(a.feature_id) AS n_active, sum(o.share) FILTER (a.feature_id IS NOT NULL) AS active_share,
    max(a.max_activation) AS max_activation
FROM known AS o
JOIN graphs AS g ON g.graph_id = o.graph_id
LEFT JOIN active AS a ON a.sae_id = o.sae_id AND a.feature_id = o.feature_id
GROUP BY o.graph_id
HAVING count(a.feature_id) > 0
ORDER BY active_share DESC NULLS LAST, n_active DESC, o.graph_id
LIMIT k;
