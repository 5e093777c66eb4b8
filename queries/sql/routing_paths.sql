-- Routing circuits: paths of first choices over `over_layers` layers (NULL takes every length), the
-- furthest above layers that know nothing of each other but the token first. Paths without t were too
-- rarely expected to be tested.
CREATE OR REPLACE MACRO routing_paths(
    run VARCHAR, over_layers BIGINT := NULL, k BIGINT := 20
) AS TABLE
SELECT r.n_layers, r.first_layer, r.choices, r.n_tokens, r.n_texts, r.n_vocab, r.support, r.lift,
    r.pmi, r.npmi, r.markov_lift, r.energy_drop, r.energy_drop_error, r.expected, r.t, r.p, r.q
FROM routing_circuits AS r
WHERE r.run_id = run AND (over_layers IS NULL OR r.n_layers = over_layers)
ORDER BY r.t DESC NULLS LAST, r.n_tokens DESC, r.first_layer, r.choices
LIMIT k;
