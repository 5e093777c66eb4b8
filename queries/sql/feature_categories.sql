-- One feature by category: how many texts it is active in, and its mean activation per text.
CREATE OR REPLACE MACRO feature_categories(run VARCHAR, sae VARCHAR, feature BIGINT) AS TABLE
WITH active AS (
    SELECT f.text_id, f.mean_activation, f.max_activation
    FROM feature_texts AS f
    WHERE f.run_id = run AND f.sae_id = sae AND f.feature_id = feature
)
SELECT x.category, count(a.text_id) AS n_active_texts, count(*) AS n_texts,
    count(a.text_id) / count(*) AS rate,
    coalesce(sum(a.mean_activation), 0) / count(*) AS mean_activation,
    max(a.max_activation) AS max_activation
FROM texts AS x
LEFT JOIN active AS a ON a.text_id = x.text_id
WHERE x.run_id = run AND x.n_tokens > 0
GROUP BY x.category
ORDER BY 5 DESC, x.category;
