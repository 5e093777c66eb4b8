-- Each pattern on the other texts. `spread` is the sum over texts of the squares of what recall less
-- false positives changes by without them; `n_equal` how many texts of equal size would tell as much
-- of recall as those there are.
WITH fired AS (
    SELECT
        p.feature_id,
        p.text_id,
        count(*) AS n_active,
        count(*) FILTER (list_contains(l.chosen, p.slots[l.slot])) AS n_active_found,
        count(*) FILTER (p.is_strong) AS n_strong,
        count(*) FILTER (p.is_strong AND list_contains(l.chosen, p.slots[l.slot])) AS n_found
    FROM pattern_part AS p
    JOIN pattern_learned AS l ON l.feature_id = p.feature_id
    WHERE p.half = 1
    GROUP BY p.feature_id, p.text_id
),
matched AS (
    SELECT c.feature_id, t.text_id, sum(t.n) AS n
    FROM (SELECT l.feature_id, l.slot, unnest(l.chosen) AS value FROM pattern_learned AS l) AS c
    JOIN pattern_totals AS t ON t.slot = c.slot AND t.value = c.value
    WHERE t.text_id IS NOT NULL
    GROUP BY c.feature_id, t.text_id
),
silent AS (
    SELECT
        l.feature_id,
        x.text_id,
        x.n_tokens - coalesce(f.n_active, 0) AS n_silent,
        coalesce(m.n, 0) - coalesce(f.n_active_found, 0) AS n_wrong
    FROM pattern_learned AS l
    JOIN pattern_texts AS x ON x.is_silent
    LEFT JOIN fired AS f ON f.feature_id = l.feature_id AND f.text_id = x.text_id
    LEFT JOIN matched AS m ON m.feature_id = l.feature_id AND m.text_id = x.text_id
),
texts_of AS (
    SELECT
        coalesce(f.feature_id, s.feature_id) AS feature_id,
        coalesce(f.n_strong, 0) AS n_strong,
        coalesce(f.n_found, 0) AS n_found,
        coalesce(s.n_silent, 0) AS n_silent,
        coalesce(s.n_wrong, 0) AS n_wrong
    FROM fired AS f
    FULL JOIN silent AS s ON s.feature_id = f.feature_id AND s.text_id = f.text_id
),
sums AS (
    SELECT
        t.feature_id,
        sum(t.n_strong) AS n_strong,
        count(*) FILTER (t.n_strong > 0) AS n_texts,
        sum(t.n_strong) * sum(t.n_strong) / nullif(sum(t.n_strong * t.n_strong), 0) AS n_equal,
        sum(t.n_silent) AS n_silent,
        sum(t.n_found) / nullif(sum(t.n_strong), 0) AS recall,
        sum(t.n_wrong) / nullif(sum(t.n_silent), 0) AS false_positive_rate
    FROM texts_of AS t
    GROUP BY t.feature_id
),
spreads AS (
    SELECT
        t.feature_id,
        sum(
            pow(
                (t.n_found - s.recall * t.n_strong) / nullif(s.n_strong - t.n_strong, 0)
                - (t.n_wrong - s.false_positive_rate * t.n_silent)
                / nullif(s.n_silent - t.n_silent, 0),
                2
            )
        ) AS spread
    FROM texts_of AS t
    JOIN sums AS s ON s.feature_id = t.feature_id
    GROUP BY t.feature_id
)
SELECT
    l.feature_id,
    l.slot,
    l.chosen,
    coalesce(s.n_strong, 0)::BIGINT AS n_strong,
    coalesce(s.n_texts, 0)::BIGINT AS n_texts,
    s.recall,
    s.false_positive_rate,
    s.n_equal,
    d.spread
FROM pattern_learned AS l
LEFT JOIN sums AS s ON s.feature_id = l.feature_id
LEFT JOIN spreads AS d ON d.feature_id = l.feature_id
ORDER BY l.feature_id;
