-- The best specialist of each category in each SAE, and whether it counts as found: more strong
-- texts inside than outside, q below 0.05.
CREATE OR REPLACE MACRO specialist_matrix(run VARCHAR) AS TABLE
WITH best AS (
    SELECT s.sae_id, s.category,
        arg_max(s, (s.score, s.auroc, -s.feature_id)) AS b,
        count(*) FILTER (s.score > 0 AND s.q < 0.05) AS n_found
    FROM specialists AS s
    WHERE s.run_id = run
    GROUP BY s.sae_id, s.category
)
SELECT a.layer, a.stream, b.sae_id, b.category, b.b.feature_id AS feature_id, b.b.score AS score,
    b.b.n_strong_in AS n_strong_in, b.b.n_in AS n_in, b.b.n_strong_out AS n_strong_out,
    b.b.auroc AS auroc, b.b.q AS q, (b.b.score > 0 AND b.b.q < 0.05) AS is_found, b.n_found
FROM best AS b
JOIN saes AS a ON a.run_id = run AND a.sae_id = b.sae_id
ORDER BY b.category, a.layer, b.sae_id;
