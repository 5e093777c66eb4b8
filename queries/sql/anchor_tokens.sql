-- Each anchor in the words it takes: the tokens it is the first choice of most often beyond its share
-- (at least five times), the classes of those tokens, and the anchor's share of all tokens.
CREATE OR REPLACE MACRO anchor_tokens(run VARCHAR, at_layer BIGINT := NULL, k BIGINT := 8) AS TABLE
WITH firsts AS (
    SELECT r.layer, r.router, r.choice_id, t.token, count(*) AS n,
        sum(count(*)) OVER (PARTITION BY r.router, r.choice_id) AS n_choice,
        sum(count(*)) OVER (PARTITION BY r.router, t.token) AS n_token,
        sum(count(*)) OVER (PARTITION BY r.router) AS n_all
    FROM routing AS r
    JOIN tokens AS t ON t.run_id = run AND t.token_index = r.token_index
    WHERE r.run_id = run AND r.rank = 0 AND NOT t.is_masked
        AND (at_layer IS NULL OR r.layer = at_layer)
    GROUP BY r.layer, r.router, r.choice_id, t.token
),
ranked AS (
    SELECT f.*, row_number() OVER (
        PARTITION BY f.router, f.choice_id
        ORDER BY f.n * ln(f.n * f.n_all / (f.n_choice * f.n_token)) DESC, f.token
    ) AS place
    FROM firsts AS f
    WHERE f.n >= 5
)
SELECT r.layer, r.router, r.choice_id, any_value(r.n_choice) / any_value(r.n_all) AS share,
    list(r.token ORDER BY r.place) AS tokens,
    list(round(r.n / r.n_token, 2) ORDER BY r.place) AS share_of_token,
    list_sort(list(DISTINCT token_class(r.token))) AS classes
FROM ranked AS r
WHERE r.place <= k
GROUP BY r.layer, r.router, r.choice_id
ORDER BY r.layer, r.router, r.choice_id;
