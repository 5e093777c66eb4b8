-- How the model does on each text: perplexity, energy, entropy and confidence over tokens that have a
-- next one, the hardest text first.
CREATE OR REPLACE MACRO text_behaviour(
    run VARCHAR, in_category VARCHAR := NULL, k BIGINT := 1000,
    with_special BOOLEAN := false, with_first BOOLEAN := false, with_sinks BOOLEAN := false
) AS TABLE
SELECT c.text_id, any_value(x.category) AS category, count(t.energy) AS n_tokens,
    avg(t.energy) AS mean_energy, exp(avg(t.energy)) AS perplexity, max(t.energy) AS max_energy,
    avg(t.entropy) FILTER (t.energy IS NOT NULL) AS mean_entropy,
    avg(t.confidence) FILTER (t.energy IS NOT NULL) AS mean_confidence,
    avg((t.rank = 0)::INTEGER) AS top1_rate, left(any_value(x.text), 80) AS beginning
FROM tokens AS t
JOIN contexts AS c ON c.run_id = run AND c.context_id = t.context_id
LEFT JOIN texts AS x ON x.run_id = run AND x.text_id = c.text_id
WHERE t.run_id = run AND (with_special OR NOT t.is_special)
    AND (with_first OR NOT t.is_first) AND (with_sinks OR NOT t.is_sink)
    AND (in_category IS NULL OR x.category = in_category)
GROUP BY c.text_id
HAVING count(t.energy) > 0
ORDER BY mean_energy DESC, c.text_id
LIMIT k;
