-- The features of an SAE that go most with each choice of the routers at a layer: precision is how
-- often the choice is taken when the feature is active. Those with `q` below 0.05 come first.
CREATE OR REPLACE MACRO anchor_features(
    run VARCHAR, sae VARCHAR, at_layer BIGINT := NULL, k BIGINT := 50
) AS TABLE
SELECT r.layer, r.router, r.choice_id, r.feature_id, r.n_both, r.precision, r.recall, r.lift, r.phi,
    r.t, r.p, r.q, f.top_category, l.description AS label
FROM routing_features AS r
JOIN features AS f ON f.run_id = run AND f.sae_id = sae AND f.feature_id = r.feature_id
LEFT JOIN explanations AS l
    ON l.run_id = run AND l.sae_id = sae AND l.feature_id = r.feature_id AND l.is_label
WHERE r.run_id = run AND r.sae_id = sae AND (at_layer IS NULL OR r.layer = at_layer)
ORDER BY coalesce(r.q, 1) < 0.05 DESC, r.phi DESC, r.layer, r.choice_id, r.feature_id
LIMIT k;
