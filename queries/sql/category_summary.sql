-- The texts of a run by category: how many, how long, and how hard for the model.
CREATE OR REPLACE MACRO category_summary(
    run VARCHAR, with_special BOOLEAN := false, with_first BOOLEAN := false,
    with_sinks BOOLEAN := false
) AS TABLE
SELECT x.category, count(DISTINCT x.text_id) AS n_texts, count(*) AS n_tokens,
    avg(t.energy) AS mean_energy, exp(avg(t.energy)) AS perplexity,
    avg(t.entropy) AS mean_entropy, avg(t.confidence) AS mean_confidence,
    avg((t.rank = 0)::INTEGER) AS top1_rate
FROM tokens AS t
JOIN contexts AS c ON c.run_id = run AND c.context_id = t.context_id
LEFT JOIN texts AS x ON x.run_id = run AND x.text_id = c.text_id
WHERE t.run_id = run AND (with_special OR NOT t.is_special)
    AND (with_first OR NOT t.is_first) AND (with_sinks OR NOT t.is_sink)
GROUP BY x.category
ORDER BY x.category;
