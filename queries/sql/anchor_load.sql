-- The choices (experts, anchors) of the routers of a run: their share of tokens, mean weight, mean
-- energy and fall of energy, and the category they take most beyond its share.
CREATE OR REPLACE MACRO anchor_load(run VARCHAR, at_layer BIGINT := NULL) AS TABLE
WITH chosen AS (
    SELECT r.router, r.layer, r.token_index, r.rank, r.choice_id, r.weight, t.energy, t.vocab_id,
        x.category, q.energy_in - q.energy_out AS energy_drop
    FROM routing AS r
    JOIN tokens AS t ON t.run_id = run AND t.token_index = r.token_index
    JOIN contexts AS c ON c.run_id = run AND c.context_id = t.context_id
    LEFT JOIN texts AS x ON x.run_id = run AND x.text_id = c.text_id
    JOIN routing_tokens AS q
        ON q.run_id = run AND q.router = r.router AND q.token_index = r.token_index
    WHERE r.run_id = run AND NOT t.is_masked AND (at_layer IS NULL OR r.layer = at_layer)
),
sizes AS (
    SELECT h.router, count(*) FILTER (h.rank = 0) AS n, count(*) AS n_routes FROM chosen AS h GROUP BY 1
),
categories AS (
    SELECT h.router, h.choice_id, h.category,
        count(*) / sum(count(*)) OVER (PARTITION BY h.router, h.choice_id) AS share,
        sum(count(*)) OVER (PARTITION BY h.router, h.category)
            / sum(count(*)) OVER (PARTITION BY h.router) AS expected
    FROM chosen AS h
    WHERE h.rank = 0
    GROUP BY h.router, h.choice_id, h.category
),
favourite AS (
    SELECT g.router, g.choice_id, arg_max(g.category, g.share / g.expected) AS top_category,
        max(g.share / g.expected) AS category_lift
    FROM categories AS g
    GROUP BY g.router, g.choice_id
)
SELECT h.layer, h.router, h.choice_id, count(*) FILTER (h.rank = 0) AS n_first,
    count(*) FILTER (h.rank = 0) / any_value(z.n) AS share_first,
    count(*) / any_value(z.n_routes) AS load, avg(h.weight) AS mean_weight,
    avg(h.energy) FILTER (h.rank = 0) AS mean_energy,
    avg(h.energy_drop) FILTER (h.rank = 0) AS mean_energy_drop,
    count(DISTINCT h.vocab_id) FILTER (h.rank = 0) AS n_vocab,
    any_value(f.top_category) AS top_category, any_value(f.category_lift) AS category_lift
FROM chosen AS h
JOIN sizes AS z ON z.router = h.router
LEFT JOIN favourite AS f ON f.router = h.router AND f.choice_id = h.choice_id
GROUP BY h.layer, h.router, h.choice_id
ORDER BY h.layer, h.router, load DESC, h.choice_id;
