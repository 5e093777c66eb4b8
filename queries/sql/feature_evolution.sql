-- One feature followed through its stream: the best match in the next SAE, the match of that, and so
-- on, in both directions (`step` 0 is the feature itself). `correlation` is with the step nearer to
-- it.
CREATE OR REPLACE MACRO feature_evolution(run VARCHAR, sae VARCHAR, feature BIGINT) AS TABLE
WITH RECURSIVE ordered AS (
    SELECT a.sae_id, a.layer, row_number() OVER (
        PARTITION BY a.stream ORDER BY a.layer,
            regexp_matches(a.hook_name, 'resid_(mid|post)$'), a.d_sae, a.sae_id
    ) AS place
    FROM saes AS a
    WHERE a.run_id = run
),
best AS (
    SELECT m.sae_id, m.feature_id, m.other_sae_id, m.other_feature_id, m.correlation, m.cosine,
        (b.place - a.place)::INTEGER AS direction
    FROM feature_matches AS m
    JOIN ordered AS a ON a.sae_id = m.sae_id
    JOIN ordered AS b ON b.sae_id = m.other_sae_id
    WHERE m.run_id = run AND m.rank = 0
),
walked AS (
    SELECT 0 AS step, sae AS at_sae, feature::BIGINT AS at_feature, NULL::FLOAT AS correlation,
        NULL::FLOAT AS cosine
    UNION ALL
    SELECT w.step + b.direction, b.other_sae_id, b.other_feature_id::BIGINT, b.correlation, b.cosine
    FROM walked AS w
    JOIN best AS b ON b.sae_id = w.at_sae AND b.feature_id = w.at_feature
        AND (w.step = 0 OR sign(w.step) = b.direction)
)
SELECT w.step, o.layer, w.at_sae, w.at_feature, w.correlation, w.cosine, f.n_active,
    f.max_activation, f.top_category, f.selectivity
FROM walked AS w
JOIN ordered AS o ON o.sae_id = w.at_sae
LEFT JOIN features AS f ON f.run_id = run AND f.sae_id = w.at_sae AND f.feature_id = w.at_feature
ORDER BY w.step;
