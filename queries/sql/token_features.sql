-- The features active at one token, strongest first, each as a share of the most it reaches; a
-- masked token counts for no maximum, and where it is above it the share is NULL.
CREATE OR REPLACE MACRO token_features(
    run VARCHAR, at_token BIGINT, sae VARCHAR := NULL, k BIGINT := 20
) AS TABLE
WITH active AS (
    SELECT c.sae_id, c.feature_id, c.activation
    FROM codes AS c
    WHERE c.run_id = run AND c.token_index = at_token AND (sae IS NULL OR c.sae_id = sae)
)
SELECT a.sae_id, a.feature_id, a.activation,
    CASE WHEN a.activation <= f.max_activation THEN a.activation / f.max_activation END
        AS share_of_max,
    f.density, f.top_category, l.description AS label
FROM active AS a
LEFT JOIN features AS f
    ON f.run_id = run AND f.sae_id = a.sae_id AND f.feature_id = a.feature_id
LEFT JOIN explanations AS l
    ON l.run_id = run AND l.sae_id = a.sae_id AND l.feature_id = a.feature_id AND l.is_label
ORDER BY abs(a.activation) DESC, a.sae_id, a.feature_id
LIMIT k;
