-- The tokens a feature is active on: activation, g = -dE/dz in every variant, and the energy of the
-- token. Masked tokens and those without a next one are left out; at most `k`, spread evenly.
CREATE OR REPLACE MACRO efas_scatter(
    run VARCHAR, sae VARCHAR, feature BIGINT, k BIGINT := 2000
) AS TABLE
WITH own AS (
    SELECT c.token_index, c.activation, c.g_lens, c.g_own, c.g_total, c.g_calibration
    FROM feature_codes AS c
    WHERE c.run_id = run AND c.sae_id = sae AND c.feature_id = feature
),
valid AS (
    SELECT o.*, t.context_id, t.pos, t.token, t.energy,
        row_number() OVER (ORDER BY o.token_index) - 1 AS place, count(*) OVER () AS n
    FROM own AS o
    JOIN tokens AS t ON t.run_id = run AND t.token_index = o.token_index
    WHERE NOT t.is_masked AND t.energy IS NOT NULL
)
SELECT v.token_index, v.context_id, v.pos, v.token, v.activation, v.energy, v.g_lens, v.g_own,
    v.g_total, v.g_calibration
FROM valid AS v
WHERE v.place % greatest(1, ceil(v.n / k))::BIGINT = 0
ORDER BY v.token_index
LIMIT k;
