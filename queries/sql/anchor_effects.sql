-- What leaving out each anchor does to energies, nats a token: at the tokens that go to it (`own`), at
-- the others, and the difference, which is what the anchor does for its own. Largest first. Empty until
-- `energylens routing` has measured it.
CREATE OR REPLACE MACRO anchor_effects(run VARCHAR, at_layer BIGINT := NULL) AS TABLE
SELECT a.layer, a.router, a.choice_id, a.n_own, a.own, a.own_low, a.own_high, a.others,
    a.difference, a.difference_low, a.difference_high
FROM anchor_ablations AS a
WHERE a.run_id = run AND (at_layer IS NULL OR a.layer = at_layer)
ORDER BY a.difference DESC NULLS LAST, a.router, a.choice_id;
