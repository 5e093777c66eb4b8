-- Every text of a run with one feature's activation in it, by category, the strongest text first;
-- 0 where the feature is silent. Means are over all tokens of the text that are not masked.
CREATE OR REPLACE MACRO feature_text_means(run VARCHAR, sae VARCHAR, feature BIGINT) AS TABLE
WITH own AS (
    SELECT f.text_id, f.n_active, f.mean_activation, f.max_activation
    FROM feature_texts AS f
    WHERE f.run_id = run AND f.sae_id = sae AND f.feature_id = feature
)
SELECT x.category, x.text_id, coalesce(o.mean_activation, 0) AS mean_activation,
    coalesce(o.max_activation, 0) AS max_activation, coalesce(o.n_active, 0) AS n_active,
    x.n_tokens, left(x.text, 80) AS beginning
FROM texts AS x
LEFT JOIN own AS o ON o.text_id = x.text_id
WHERE x.run_id = run AND x.n_tokens > 0
ORDER BY x.category NULLS LAST, 3 DESC, x.text_id;
