-- The features of other SAEs that one feature goes with, up to `k` of each `way`. `active`: those of
-- the SAEs before and after in the same stream, and of other widths, whose activations correlate most
-- (`correlation`; `cosine` is of the decoder directions, where both write into one space). `reads it`:
-- those of the next SAE on the residual stream whose encoder directions are closest to what it writes
-- there, `is read`: those that write what it reads so (`cosine` of decoder and encoder direction, by
-- weights alone). The layers in order, the best first.
CREATE OR REPLACE MACRO linked_features(
    run VARCHAR, sae VARCHAR, feature BIGINT, k BIGINT := 3
) AS TABLE
WITH linked AS (
    SELECT 'active' AS way, m.other_sae_id, m.other_feature_id, m.correlation, m.cosine,
        m.rank::BIGINT AS place
    FROM feature_matches AS m
    WHERE m.run_id = run AND m.sae_id = sae AND m.feature_id = feature
    UNION ALL
    SELECT 'reads it', r.other_sae_id, r.other_feature_id, NULL, r.cosine, r.rank
    FROM feature_readers AS r
    WHERE r.run_id = run AND r.sae_id = sae AND r.feature_id = feature
    UNION ALL
    SELECT 'is read', r.sae_id, r.feature_id, NULL, r.cosine,
        row_number() OVER (PARTITION BY r.sae_id ORDER BY r.cosine DESC, r.feature_id) - 1
    FROM feature_readers AS r
    WHERE r.run_id = run AND r.other_sae_id = sae AND r.other_feature_id = feature
)
SELECT a.layer, l.other_sae_id, l.way, l.place AS rank, l.other_feature_id, l.correlation, l.cosine,
    g.n_active, g.top_category
FROM linked AS l
JOIN saes AS a ON a.run_id = run AND a.sae_id = l.other_sae_id
LEFT JOIN features AS g ON g.run_id = run AND g.sae_id = l.other_sae_id
    AND g.feature_id = l.other_feature_id
WHERE l.place < k
ORDER BY a.layer, l.other_sae_id, l.way, l.place;
