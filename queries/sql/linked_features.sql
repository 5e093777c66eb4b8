-- The features of neighbouring SAEs (the layers before and after in the same stream, and other
-- widths) that one feature goes with most, by the correlation of their activations; `cosine` is of
-- the decoder directions, where both write into one space. The layers in order, the best first.
CREATE OR REPLACE MACRO linked_features(
    run VARCHAR, sae VARCHAR, feature BIGINT, k BIGINT := 3
) AS TABLE
SELECT a.layer, m.other_sae_id, m.rank, m.other_feature_id, m.correlation, m.cosine, g.n_active,
    g.top_category
FROM feature_matches AS m
JOIN saes AS a ON a.run_id = run AND a.sae_id = m.other_sae_id
LEFT JOIN features AS g ON g.run_id = run AND g.sae_id = m.other_sae_id
    AND g.feature_id = m.other_feature_id
WHERE m.run_id = run AND m.sae_id = sae AND m.feature_id = feature AND m.rank < k
ORDER BY a.layer, m.other_sae_id, m.rank;
