-- The strongest paths of an attribution graph from one node, such as a token's, to another, the logit
-- it was traced for if left out (else the likeliest). A path's `part` is the product over its links of
-- the part of the target's input that each is: what comes of the end along this path. `sign` is that
-- of the product of the weights. Paths of less than `min_part` are not followed; links of which it is
-- not known where they lead are in none.
CREATE OR REPLACE MACRO graph_paths(
    graph VARCHAR, from_node VARCHAR, to_node VARCHAR := NULL, min_part DOUBLE := 0.0001,
    k BIGINT := 10
) AS TABLE
WITH RECURSIVE nodes AS MATERIALIZED (
    SELECT n.number, n.node_id, n.node_type, n.is_target_logit, n.token_prob
    FROM graph_nodes AS n
    WHERE n.graph_id = graph
),
steps AS MATERIALIZED (
    SELECT l.source, l.target, l.share AS part, sign(l.weight) AS sign
    FROM graph_links AS l
    WHERE l.graph_id = graph AND l.share IS NOT NULL
),
wanted AS MATERIALIZED (
    SELECT n.number
    FROM nodes AS n
    WHERE n.node_id = to_node
        OR (to_node IS NULL AND n.number = (
            SELECT o.number
            FROM nodes AS o
            WHERE o.node_type = 'logit'
            ORDER BY o.is_target_logit DESC, o.token_prob DESC, o.number
            LIMIT 1
        ))
),
paths AS (
    SELECT n.number AS last, [n.number] AS numbers, 1.0::DOUBLE AS part, 1 AS sign
    FROM nodes AS n
    WHERE n.node_id = from_node
    UNION ALL
    SELECT ranked.last, ranked.numbers, ranked.part, ranked.sign
    FROM (
        SELECT longer.last, longer.numbers, longer.part, longer.sign, row_number() OVER (
            PARTITION BY longer.last ORDER BY longer.part DESC, longer.numbers
        ) AS place
        FROM (
            SELECT s.target AS last, list_append(p.numbers, s.target) AS numbers,
                p.part * s.part AS part, (p.sign * s.sign)::INTEGER AS sign
            FROM paths AS p
            JOIN steps AS s ON s.source = p.last
            WHERE p.part * s.part >= min_part AND len(p.numbers) < 1000
        ) AS longer
    ) AS ranked
    WHERE ranked.place <= k
),
ordered AS (
    SELECT p.numbers, p.part, p.sign,
        row_number() OVER (ORDER BY p.part DESC, len(p.numbers), p.numbers) - 1 AS rank
    FROM paths AS p
    WHERE p.last IN (SELECT w.number FROM wanted AS w) AND len(p.numbers) > 1
),
placed AS (
    SELECT o.rank, unnest(o.numbers) AS number, unnest(range(len(o.numbers))) AS place
    FROM ordered AS o
    WHERE o.rank < k
),
named AS (
    SELECT p.rank, list(n.node_id ORDER BY p.place) AS node_ids
    FROM placed AS p
    JOIN nodes AS n ON n.number = p.number
    GROUP BY p.rank
)
SELECT o.rank, o.part, o.sign, len(o.numbers) - 1 AS n_steps, m.node_ids
FROM ordered AS o
JOIN named AS m ON m.rank = o.rank
ORDER BY o.rank;
