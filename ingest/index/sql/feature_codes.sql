SELECT
    c.run_id, c.sae_id, c.feature_id, c.token_index, c.activation,
    c.g_lens, c.g_own, c.g_total, c.g_calibration
FROM codes AS c
WHERE c.run_id = $run_id AND c.sae_id = $sae_id
ORDER BY c.feature_id, c.token_index;
