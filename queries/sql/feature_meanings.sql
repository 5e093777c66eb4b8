-- What the features of an SAE stand for: the label, whether they are starred, and the `k` tokens they
-- are strongest on, by the sum of their activations at the peaks of their strongest contexts. NULL for
-- the features means all of the SAE.
CREATE OR REPLACE MACRO feature_meanings(
    run VARCHAR, sae VARCHAR, of_features BIGINT[] := NULL, k BIGINT := 5
) AS TABLE
WITH wanted AS (
    SELECT f.feature_id
    FROM features AS f
    WHERE f.run_id = run AND f.sae_id = sae
        AND (of_features IS NULL OR f.feature_id IN (SELECT unnest(of_features)))
),
peaks AS (
    SELECT
        c.feature_id,
        t.token,
        row_number() OVER (
            PARTITION BY c.feature_id ORDER BY sum(c.activation) DESC, t.token
        ) AS place
    FROM top_contexts AS c
    JOIN wanted AS w ON w.feature_id = c.feature_id
    JOIN tokens AS t ON t.run_id = run AND t.token_index = c.token_index
    WHERE c.run_id = run AND c.sae_id = sae
    GROUP BY c.feature_id, t.token
),
strongest AS (
    SELECT p.feature_id, list(p.token ORDER BY p.place) AS tokens
    FROM peaks AS p
    WHERE p.place <= k
    GROUP BY p.feature_id
)
SELECT w.feature_id, l.description AS label, coalesce(n.is_starred, false) AS is_starred, s.tokens
FROM wanted AS w
LEFT JOIN strongest AS s ON s.feature_id = w.feature_id
LEFT JOIN notes AS n ON n.run_id = run AND n.sae_id = sae AND n.feature_id = w.feature_id
LEFT JOIN explanations AS l
    ON l.run_id = run AND l.sae_id = sae AND l.feature_id = w.feature_id AND l.is_label
ORDER BY w.feature_id;
