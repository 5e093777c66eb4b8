-- The contexts in which one feature is strongest, one row each, with the token of the peak.
CREATE OR REPLACE MACRO feature_contexts(
    run VARCHAR, sae VARCHAR, feature BIGINT, k BIGINT := 20
) AS TABLE
SELECT p.rank, p.activation, p.context_id, p.token_index, c.text_id, c.n_tokens, x.category,
    x.source
FROM top_contexts AS p
JOIN contexts AS c ON c.run_id = run AND c.context_id = p.context_id
LEFT JOIN texts AS x ON x.run_id = run AND x.text_id = c.text_id
WHERE p.run_id = run AND p.sae_id = sae AND p.feature_id = feature AND p.rank < k
ORDER BY p.rank;
