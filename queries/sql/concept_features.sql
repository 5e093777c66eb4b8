-- The features for a concept: those stronger in the texts that match a regular expression than in
-- the rest. `weight` is the mean over matching texts of the feature's mean activation, less that
-- over the other texts; `rate_in` and `rate_out` are the shares of texts it is active in.
CREATE OR REPLACE MACRO concept_features(
    run VARCHAR, sae VARCHAR, pattern VARCHAR, k BIGINT := 20
) AS TABLE
WITH marked AS (
    SELECT x.text_id, regexp_matches(x.text, pattern) AS is_match
    FROM texts AS x
    WHERE x.run_id = run AND x.n_tokens > 0
),
sizes AS (
    SELECT
        count(*) FILTER (m.is_match) AS n_in,
        count(*) FILTER (NOT m.is_match) AS n_out
    FROM marked AS m
),
sums AS (
    SELECT
        f.feature_id,
        coalesce(sum(f.mean_activation) FILTER (m.is_match), 0) AS sum_in,
        coalesce(sum(f.mean_activation) FILTER (NOT m.is_match), 0) AS sum_out,
        count(*) FILTER (m.is_match) AS texts_in,
        count(*) FILTER (NOT m.is_match) AS texts_out
    FROM feature_texts AS f
    JOIN marked AS m ON m.text_id = f.text_id
    WHERE f.run_id = run AND f.sae_id = sae
    GROUP BY f.feature_id
)
SELECT
    s.feature_id,
    s.sum_in / z.n_in - coalesce(s.sum_out / nullif(z.n_out, 0), 0) AS weight,
    s.texts_in / z.n_in AS rate_in,
    s.texts_out / nullif(z.n_out, 0) AS rate_out,
    s.texts_in,
    z.n_in AS n_matching_texts
FROM sums AS s
CROSS JOIN sizes AS z
WHERE s.texts_in > 0
ORDER BY 2 DESC, s.feature_id
LIMIT k;
