-- The choices of routers that one feature goes with: those among whose closest features it is stored;
-- those with `q` below 0.05 first, the closest first.
CREATE OR REPLACE MACRO feature_anchors(run VARCHAR, sae VARCHAR, feature BIGINT) AS TABLE
SELECT r.layer, r.router, r.choice_id, r.n_both, r.precision, r.recall, r.lift, r.phi, r.t, r.q
FROM routing_features AS r
WHERE r.run_id = run AND r.sae_id = sae AND r.feature_id = feature
ORDER BY coalesce(r.q, 1) < 0.05 DESC, r.phi DESC, r.layer, r.choice_id;
