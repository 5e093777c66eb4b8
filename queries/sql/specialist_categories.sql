-- For each category of texts, in how many SAEs a specialist of it is found (always, sometimes,
-- never), and the SAE and layer whose specialist is best.
CREATE OR REPLACE MACRO specialist_categories(run VARCHAR) AS TABLE
WITH best AS (
    SELECT s.sae_id, s.category, arg_max(s, (s.score, s.auroc, -s.feature_id)) AS b
    FROM specialists AS s
    WHERE s.run_id = run
    GROUP BY s.sae_id, s.category
),
placed AS (
    SELECT b.category, b.sae_id, a.layer, a.stream, b.b, (b.b.score > 0 AND b.b.q < 0.05) AS is_found
    FROM best AS b
    JOIN saes AS a ON a.run_id = run AND a.sae_id = b.sae_id
)
SELECT p.category, count(*) AS n_saes, count(*) FILTER (p.is_found) AS n_found,
    CASE count(*) FILTER (p.is_found) WHEN count(*) THEN 'always' WHEN 0 THEN 'never'
        ELSE 'sometimes' END AS verdict,
    arg_max(p.layer, (p.b.score, p.b.auroc)) AS best_layer,
    arg_max(p.sae_id, (p.b.score, p.b.auroc)) AS best_sae,
    arg_max(p.b.feature_id, (p.b.score, p.b.auroc)) AS best_feature,
    max(p.b.score) AS best_score, any_value(p.b.n_in) AS n_texts
FROM placed AS p
GROUP BY p.category
ORDER BY n_found DESC, best_score DESC, p.category;
