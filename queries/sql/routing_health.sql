-- Each router of a run: load, dead choices, concentration, balance, routing information, and how its
-- choices go with the energy. What each column means stands in its comment in routing_layers.
CREATE OR REPLACE MACRO routing_health(run VARCHAR) AS TABLE
SELECT r.* EXCLUDE (run_id)
FROM routing_layers AS r
WHERE r.run_id = run
ORDER BY r.layer, r.router;
