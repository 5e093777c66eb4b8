-- Mean energy and entropy under the lens after each layer, over tokens that have a next one, by
-- category and (`is_all`) over all.
CREATE OR REPLACE MACRO energy_by_layer(
    run VARCHAR, with_special BOOLEAN := false, with_first BOOLEAN := false,
    with_sinks BOOLEAN := false
) AS TABLE
WITH chosen AS (
    SELECT t.token_index, x.category
    FROM tokens AS t
    JOIN contexts AS c ON c.run_id = run AND c.context_id = t.context_id
    LEFT JOIN texts AS x ON x.run_id = run AND x.text_id = c.text_id
    WHERE t.run_id = run AND (with_special OR NOT t.is_special)
        AND (with_first OR NOT t.is_first) AND (with_sinks OR NOT t.is_sink)
)
SELECT e.layer, h.category, grouping(h.category) = 1 AS is_all, avg(e.energy) AS mean_energy, avg(e.entropy) AS mean_entropy,
    avg((e.rank = 0)::INTEGER) AS top1_rate, count(e.energy) AS n_tokens
FROM energies AS e
JOIN chosen AS h ON h.token_index = e.token_index
WHERE e.run_id = run AND e.energy IS NOT NULL
GROUP BY GROUPING SETS ((e.layer, h.category), (e.layer))
ORDER BY is_all DESC, h.category, e.layer;
