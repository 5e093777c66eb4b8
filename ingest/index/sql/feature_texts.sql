SELECT
    $run_id AS run_id,
    $sae_id AS sae_id,
    p.feature_id,
    p.text_id,
    count(*)::INTEGER AS n_active,
    (sum(p.activation::DOUBLE) / any_value(x.n_tokens))::FLOAT AS mean_activation,
    max(p.activation) AS max_activation
FROM part AS p
JOIN run_texts AS x ON x.text_id = p.text_id
WHERE NOT p.is_masked
GROUP BY p.feature_id, p.text_id
ORDER BY p.feature_id, p.text_id;
