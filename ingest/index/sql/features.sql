WITH totals AS (
    SELECT count(*) FILTER (NOT t.is_masked) AS n_tokens FROM run_tokens AS t
),
unmasked AS (
    SELECT p.feature_id, count(*) AS n, arg_max(p.activation, abs(p.activation)) AS strongest
    FROM part AS p
    GROUP BY p.feature_id
),
statistics AS (
    SELECT
        p.feature_id,
        count(*) AS n_active,
        count(DISTINCT p.text_id) AS n_texts,
        max(p.activation) AS highest,
        min(p.activation) AS lowest,
        avg(p.activation::DOUBLE) AS average,
        stddev_pop(p.activation::DOUBLE) AS deviation,
        quantile_cont(p.activation, [0.1, 0.25, 0.5, 0.75, 0.9, 0.99]) AS quantiles
    FROM part AS p
    WHERE NOT p.is_masked
    GROUP BY p.feature_id
),
bins AS (
    SELECT
        p.feature_id,
        coalesce(
            least(floor((p.activation - s.lowest) / nullif(s.highest - s.lowest, 0) * 24), 23), 0
        )::INTEGER AS bin,
        count(*) AS n
    FROM part AS p
    JOIN statistics AS s ON s.feature_id = p.feature_id
    WHERE NOT p.is_masked
    GROUP BY ALL
),
histograms AS (
    SELECT
        b.feature_id,
        list_transform(
            range(24), lambda i: coalesce(map_from_entries(list((b.bin, b.n)))[i::INTEGER], 0)
        ) AS histogram
    FROM bins AS b
    GROUP BY b.feature_id
),
category_sizes AS (
    SELECT x.category, sum(x.n_tokens) AS n_tokens
    FROM run_texts AS x
    WHERE x.category IS NOT NULL
    GROUP BY x.category
),
by_category AS (
    SELECT
        p.feature_id,
        x.category,
        sum(abs(p.activation)::DOUBLE) / any_value(z.n_tokens) AS strength
    FROM part AS p
    JOIN run_texts AS x ON x.text_id = p.text_id
    JOIN category_sizes AS z ON z.category = x.category
    WHERE NOT p.is_masked
    GROUP BY p.feature_id, x.category
),
shares AS (
    SELECT
        c.feature_id,
        c.category,
        c.strength / sum(c.strength) OVER (PARTITION BY c.feature_id) AS share
    FROM by_category AS c
),
selectivity AS (
    SELECT
        h.feature_id,
        arg_max(h.category, h.share) AS top_category,
        1 + sum(h.share * ln(h.share)) / nullif(ln((SELECT count(*) FROM category_sizes)), 0)
            AS selectivity
    FROM shares AS h
    GROUP BY h.feature_id
)
SELECT
    $run_id AS run_id,
    $sae_id AS sae_id,
    d.feature_id,
    coalesce(s.n_active, 0) AS n_active,
    coalesce(s.n_texts, 0) AS n_texts,
    coalesce(s.n_active, 0) / t.n_tokens AS density,
    s.highest AS max_activation,
    s.lowest AS min_activation,
    s.average AS mean_activation,
    s.deviation AS std_activation,
    s.quantiles,
    g.histogram,
    coalesce(s.n_active, 0) / t.n_tokens * coalesce(s.average, 0) AS score,
    v.top_category,
    v.selectivity,
    coalesce(u.n, 0) AS n_active_unmasked,
    u.strongest AS max_activation_unmasked,
    d.decoder_norm,
    coalesce(s.n_active, 0) / t.n_tokens > 0.1 AS is_dense
FROM decoder_norms AS d
CROSS JOIN totals AS t
LEFT JOIN statistics AS s ON s.feature_id = d.feature_id
LEFT JOIN histograms AS g ON g.feature_id = d.feature_id
LEFT JOIN selectivity AS v ON v.feature_id = d.feature_id
LEFT JOIN unmasked AS u ON u.feature_id = d.feature_id
WHERE d.feature_id >= $first AND d.feature_id < $end
ORDER BY d.feature_id;
