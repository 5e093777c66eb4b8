-- Routing circuits: paths of first choices over `over_layers` layers (NULL takes every length), the
-- furthest above layers that know nothing of each other but the token first, with up to five tokens of
-- the examples kept of each, the commonest first, and their classes. Paths without t were too rarely
-- expected to be tested.
CREATE OR REPLACE MACRO routing_paths(
    run VARCHAR, over_layers BIGINT := NULL, k BIGINT := 20
) AS TABLE
WITH paths AS (
    SELECT r.*
    FROM routing_circuits AS r
    WHERE r.run_id = run AND (over_layers IS NULL OR r.n_layers = over_layers)
    ORDER BY r.t DESC NULLS LAST, r.n_tokens DESC, r.first_layer, r.choices
    LIMIT k
),
examples AS (
    SELECT p.first_layer, p.choices, unnest(p.example_tokens) AS token_index FROM paths AS p
),
pieces AS (
    SELECT
        e.first_layer,
        e.choices,
        t.token,
        row_number() OVER (
            PARTITION BY e.first_layer, e.choices ORDER BY count(*) DESC, t.token
        ) AS place
    FROM examples AS e
    JOIN tokens AS t ON t.run_id = run AND t.token_index = e.token_index
    GROUP BY e.first_layer, e.choices, t.token
),
taken AS (
    SELECT
        c.first_layer,
        c.choices,
        list(c.token ORDER BY c.place) AS tokens,
        list_sort(list(DISTINCT token_class(c.token))) AS classes
    FROM pieces AS c
    WHERE c.place <= 5
    GROUP BY c.first_layer, c.choices
)
SELECT r.n_layers, r.first_layer, r.choices, r.n_tokens, r.n_texts, r.n_vocab, r.support, r.lift,
    r.pmi, r.npmi, r.markov_lift, r.energy_drop, r.energy_drop_error, r.expected, r.t, r.p, r.q,
    a.tokens, a.classes
FROM paths AS r
LEFT JOIN taken AS a ON a.first_layer = r.first_layer AND a.choices = r.choices
ORDER BY r.t DESC NULLS LAST, r.n_tokens DESC, r.first_layer, r.choices;
