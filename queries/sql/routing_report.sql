-- Every figure of the routers of a run: its 95 % interval by texts, what a router that sends tokens
-- anywhere would have (`baseline`), and what it means. `origin` are the formulas the words were first
-- computed by, with what is wrong with each. Effects of the energy the routers see, and of leaving out
-- anchors, are there once `energylens routing` has measured them.
CREATE OR REPLACE MACRO routing_report(run VARCHAR) AS TABLE
WITH notes(metric, note) AS (VALUES
    ('concentration', '1 - mean H(p)/ln K; high under collapse too, so never alone'),
    ('routing_information', '(H(mean p) - mean H(p))/ln K; 0 under collapse and under blur'),
    ('max_vio', 'load of the busiest over the mean load, less 1'),
    ('load_cv', 'deviation of the loads over their mean'),
    ('dead_anchors', 'anchors no token goes to'),
    ('spearman_given_frequency_and_position', 'energy with the largest p, partial, by rank'),
    ('omega_squared', 'share of the variance of energy that the choice explains'),
    ('ceiling', 'correlation of the output entropy with the energy: no causal figure exceeds it'),
    ('seen_energy', 'correlation of the energy the router saw with the true one'),
    ('seen_energy_over_ceiling', 'above 0 with its interval: a leak, or a model far from calibrated'),
    ('routing_efficiency', '1 - mean H(p)/ln K, with H(p) in the loss: circular, 1 for a collapsed router'),
    ('specialization_strength', '1 - deviation of the mean p: 1 for an untrained router, falls as one specializes'),
    ('energy_routing_correlation', 'over sequences, which share length and kind; was trained to 0.5, padding counted'),
    ('total_variation', 'change of p when the energy seen is that of another token'),
    ('moved', 'share of tokens whose first choice changes then'),
    ('energy_change', 'nats a token the model loses then'),
    ('own_tokens', 'mean over anchors: nats their own tokens lose without them'),
    ('own_less_others', 'the same less what other tokens lose')
),
measured AS (
    SELECT m.router, m.layer, m.word, m.metric, m.value, m.value_low AS low, m.value_high AS high,
        m.baseline
    FROM routing_metrics AS m WHERE m.run_id = run
    UNION ALL
    SELECT e.router, e.layer, 'energy, permuted', unnest(['total_variation', 'moved', 'energy_change']),
        unnest([e.total_variation, e.moved, e.energy_change]),
        unnest([e.total_variation_low, e.moved_low, e.energy_change_low]),
        unnest([e.total_variation_high, e.moved_high, e.energy_change_high]), 0.0
    FROM energy_permutations AS e WHERE e.run_id = run
    UNION ALL
    SELECT a.router, a.layer, 'specialization, ablated', unnest(['own_tokens', 'own_less_others']),
        unnest([avg(a.own), avg(a.difference)]), NULL, NULL, 0.0
    FROM anchor_ablations AS a WHERE a.run_id = run
    GROUP BY a.router, a.layer
)
SELECT m.layer, m.router, m.word, m.metric, m.value, m.low, m.high, m.baseline,
    CASE
        WHEN m.metric LIKE '%_bits' THEN 'information of the first choice on ' || replace(m.metric[:-6], '_', ' ') || ', less its null, bits'
        WHEN m.metric LIKE '%_share' THEN 'the same over the entropy of the label'
        ELSE n.note
    END AS note
FROM measured AS m
LEFT JOIN notes AS n ON n.metric = m.metric
ORDER BY m.layer NULLS LAST, m.router, m.word, m.metric;
