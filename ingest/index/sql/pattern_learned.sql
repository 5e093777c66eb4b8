-- The pattern of each feature: in each slot the values that more strong than silent tokens have, up
-- to 95 % of what all of them gain; of the slots, the one that gains most, a hundredth off for each
-- value, among those that hardly ever find a silent token.
CREATE OR REPLACE TEMP TABLE pattern_learned AS
WITH sizes AS (
    SELECT p.feature_id, count(*) FILTER (p.is_strong) AS n_strong, count(*) AS n_active
    FROM pattern_part AS p
    WHERE p.half = 0
    GROUP BY p.feature_id
    HAVING count(*) FILTER (p.is_strong) >= $least_strong
),
half AS (
    SELECT count(*) AS n_tokens FROM pattern_tokens AS t WHERE t.half = 0
),
active AS (
    SELECT
        p.feature_id,
        p.text_id,
        p.is_strong,
        generate_subscripts(p.slots, 1) AS slot,
        unnest(p.slots) AS value
    FROM pattern_part AS p
    WHERE p.half = 0
),
counts AS (
    SELECT
        a.feature_id,
        a.slot,
        a.value,
        count(*) FILTER (a.is_strong) AS n_strong,
        count(*) AS n_active
    FROM active AS a
    WHERE a.value >= 0
    GROUP BY a.feature_id, a.slot, a.value
    HAVING count(DISTINCT CASE WHEN a.is_strong THEN a.text_id END) >= 2
),
gains AS (
    SELECT
        c.feature_id,
        c.slot,
        c.value,
        c.n_strong / s.n_strong AS recall,
        (t.n - c.n_active) / nullif(h.n_tokens - s.n_active, 0) AS wrong,
        recall - wrong AS gain
    FROM counts AS c
    JOIN sizes AS s ON s.feature_id = c.feature_id
    JOIN pattern_totals AS t ON t.text_id IS NULL AND t.slot = c.slot AND t.value = c.value
    CROSS JOIN half AS h
),
placed AS (
    SELECT
        g.*,
        row_number() OVER along AS place,
        sum(g.gain) OVER along - g.gain AS gained
    FROM gains AS g
    WHERE g.gain > 0
    WINDOW along AS (PARTITION BY g.feature_id, g.slot ORDER BY g.gain DESC, g.value)
),
short AS (
    SELECT p.*, sum(p.gain) OVER (PARTITION BY p.feature_id, p.slot) AS whole
    FROM placed AS p
    WHERE p.place <= $most_values
),
patterns AS (
    SELECT
        s.feature_id,
        s.slot,
        list(s.value ORDER BY s.place) AS chosen,
        sum(s.gain) - 0.01 * count(*) AS worth,
        sum(s.recall) >= $least_precision * sum(s.recall + s.wrong) AS is_precise
    FROM short AS s
    WHERE s.gained < 0.95 * s.whole
    GROUP BY s.feature_id, s.slot
)
SELECT p.feature_id, p.slot, p.chosen
FROM patterns AS p
QUALIFY
    row_number() OVER (
        PARTITION BY p.feature_id ORDER BY p.is_precise DESC, p.worth DESC, p.slot
    ) = 1;
