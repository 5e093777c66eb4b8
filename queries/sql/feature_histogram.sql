-- All activations of one feature in equal bins from its lowest to its highest.
CREATE OR REPLACE MACRO feature_histogram(
    run VARCHAR, sae VARCHAR, feature BIGINT, n_bins BIGINT := 24,
    with_special BOOLEAN := false, with_first BOOLEAN := false, with_sinks BOOLEAN := false
) AS TABLE
WITH values_of AS (
    SELECT c.activation
    FROM feature_codes AS c
    JOIN tokens AS t ON t.run_id = run AND t.token_index = c.token_index
    WHERE c.run_id = run AND c.sae_id = sae AND c.feature_id = feature
        AND (with_special OR NOT t.is_special)
        AND (with_first OR NOT t.is_first) AND (with_sinks OR NOT t.is_sink)
),
bounds AS (
    SELECT e.low, e.high, n_bins AS n_equal
    FROM (
        SELECT min(v.activation)::DOUBLE AS low, max(v.activation)::DOUBLE AS high
        FROM values_of AS v
    ) AS e
),
counted AS (
    SELECT
        coalesce(
            least(
                floor((v.activation - b.low) / nullif(b.high - b.low, 0) * b.n_equal),
                b.n_equal - 1
            ),
            0
        )::BIGINT AS bin,
        count(*) AS n
    FROM values_of AS v
    CROSS JOIN bounds AS b
    GROUP BY ALL
)
SELECT
    s.bin,
    b.low + (b.high - b.low) / b.n_equal * s.bin AS bin_low,
    b.low + (b.high - b.low) / b.n_equal * (s.bin + 1) AS bin_high,
    coalesce(c.n, 0) AS n
FROM (SELECT unnest(range(n_bins)) AS bin) AS s
CROSS JOIN bounds AS b
LEFT JOIN counted AS c ON c.bin = s.bin
WHERE b.low IS NOT NULL
ORDER BY s.bin;
