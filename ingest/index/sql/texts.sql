CREATE OR REPLACE TEMP TABLE run_texts AS
SELECT t.text_id, any_value(x.category) AS category, count(*) AS n_tokens
FROM run_tokens AS t
LEFT JOIN texts AS x ON x.run_id = $run_id AND x.text_id = t.text_id
WHERE NOT t.is_masked
GROUP BY t.text_id;
