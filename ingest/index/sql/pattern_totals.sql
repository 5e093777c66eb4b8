-- How often each value stands in each slot: over the half that is learned from, and in each text of
-- the other whose silent tokens are looked at.
CREATE OR REPLACE TEMP TABLE pattern_totals AS
SELECT
    s.text_id,
    s.slot,
    s.value,
    count(*) AS n
FROM (
    SELECT
        CASE WHEN t.half = 1 THEN t.text_id END AS text_id,
        generate_subscripts(t.slots, 1) AS slot,
        unnest(t.slots) AS value
    FROM pattern_tokens AS t
    WHERE t.half = 0 OR t.is_silent
) AS s
GROUP BY ALL;
