-- What the blocks after each layer are worth: the mean over tokens of the energy there less that of the
-- model's output, by category and (`is_all`) over all; the share of tokens that they make worse; and how
-- the drop goes with the energy of the output and with the entropy at the layer (correlations).
CREATE OR REPLACE MACRO drop_by_category(
    run VARCHAR, with_special BOOLEAN := false, with_first BOOLEAN := false,
    with_sinks BOOLEAN := false
) AS TABLE
WITH chosen AS (
    SELECT t.token_index, x.category, t.energy AS energy_at_end
    FROM tokens AS t
    JOIN contexts AS c ON c.run_id = run AND c.context_id = t.context_id
    LEFT JOIN texts AS x ON x.run_id = run AND x.text_id = c.text_id
    WHERE t.run_id = run AND (with_special OR NOT t.is_special)
        AND (with_first OR NOT t.is_first) AND (with_sinks OR NOT t.is_sink)
)
SELECT e.layer, h.category, grouping(h.category) = 1 AS is_all, avg(e."drop") AS mean_drop,
    stddev_samp(e."drop") AS sd_drop, avg((e."drop" < 0)::INTEGER) AS worse_rate,
    corr(e."drop", h.energy_at_end) AS r_energy, corr(e."drop", e.entropy) AS r_entropy,
    count(*) AS n_tokens
FROM energies AS e
JOIN chosen AS h ON h.token_index = e.token_index
WHERE e.run_id = run AND e."drop" IS NOT NULL
GROUP BY GROUPING SETS ((e.layer, h.category), (e.layer))
ORDER BY is_all DESC, h.category, e.layer;
