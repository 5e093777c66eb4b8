-- Heads that make what they attend to likelier, beyond 97.5 % of random heads of their shape, the
-- most so first. Empty until `energylens heads` has measured them.
CREATE OR REPLACE MACRO copying_heads(run VARCHAR, k BIGINT := 1000) AS TABLE
SELECT h.layer, h.head, h.copying, h.copying_random_025, h.copying_random_975, h.induction,
    h.previous_token, h.output_norm
FROM heads AS h
WHERE h.run_id = run AND h.copying > h.copying_random_975
ORDER BY h.copying DESC, h.layer, h.head
LIMIT k;
