-- How EFAS is distributed over the tested features of an SAE, in bins of equal width, with the
-- calibration null beside it where it was computed (`n_null`; NULL where not); with `of_within`, how
-- EFAS with window and position means off is, which `q` is of.
CREATE OR REPLACE MACRO efas_histogram(
    run VARCHAR, sae VARCHAR, of_variant VARCHAR := 'lens', n_bins BIGINT := 41,
    of_within BOOLEAN := false
) AS TABLE
WITH chosen AS (
    SELECT e.variant, CASE WHEN of_within THEN e.within ELSE e.efas END AS efas
    FROM efas AS e
    WHERE e.run_id = run AND e.sae_id = sae AND e.t IS NOT NULL
        AND e.variant IN (of_variant, 'calibration')
),
reach AS (
    SELECT greatest(max(abs(c.efas)), 1e-9) AS r,
        count(*) FILTER (c.variant = 'calibration') > 0 AS has_null
    FROM chosen AS c
),
counted AS (
    SELECT least(floor((c.efas + r.r) / (2 * r.r) * n_bins), n_bins - 1)::BIGINT AS bin,
        count(*) FILTER (c.variant = of_variant) AS n,
        count(*) FILTER (c.variant = 'calibration') AS n_null
    FROM chosen AS c
    CROSS JOIN reach AS r
    GROUP BY 1
)
SELECT b.bin, -r.r + 2 * r.r * b.bin / n_bins AS low, -r.r + 2 * r.r * (b.bin + 1) / n_bins AS high,
    coalesce(c.n, 0) AS n,
    CASE WHEN r.has_null THEN coalesce(c.n_null, 0) END AS n_null
FROM (SELECT unnest(range(n_bins)) AS bin) AS b
CROSS JOIN reach AS r
LEFT JOIN counted AS c ON c.bin = b.bin
ORDER BY b.bin;
