SELECT c.run_id, c.sae_id, c.feature_id, c.token_index, c.activation
FROM codes AS c
WHERE c.run_id = $run_id AND c.sae_id = $sae_id
ORDER BY c.feature_id, c.token_index;
