-- Pairs of heads of which the later reads what the earlier writes, by its queries (Q), keys (K) or
-- values (V), beyond what random matrices have; the most so first.
CREATE OR REPLACE MACRO composed_heads(run VARCHAR, k BIGINT := 100) AS TABLE
SELECT h.how, h.layer, h.head, h.to_layer, h.to_head, h.composition, h.random
FROM head_compositions AS h
WHERE h.run_id = run
ORDER BY h.composition DESC, h.how, h.layer, h.head, h.to_layer, h.to_head
LIMIT k;
