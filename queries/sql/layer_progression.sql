-- Each SAE of a run, layer by layer: the share of texts its most frequent feature is active in, its
-- peak activation, and how many categories have a specialist there and how good they are.
CREATE OR REPLACE MACRO layer_progression(run VARCHAR) AS TABLE
WITH shape AS (
    SELECT f.sae_id, max(f.n_texts) AS most_texts, max(f.max_activation) AS peak_activation,
        arg_max(f.feature_id, f.n_texts) AS most_frequent, arg_max(f.feature_id, f.max_activation)
            AS strongest, count(*) FILTER (f.n_active > 0) AS n_live
    FROM features AS f
    WHERE f.run_id = run
    GROUP BY f.sae_id
),
best AS (
    SELECT s.sae_id, s.category, arg_max(s, (s.score, s.auroc, -s.feature_id)) AS b
    FROM specialists AS s
    WHERE s.run_id = run
    GROUP BY s.sae_id, s.category
),
found AS (
    SELECT b.sae_id, count(*) AS n_categories,
        count(*) FILTER (b.b.score > 0 AND b.b.q < 0.05) AS n_found,
        avg(b.b.auroc) AS mean_best_auroc, avg(b.b.score / b.b.n_in) AS mean_best_score
    FROM best AS b
    GROUP BY b.sae_id
)
SELECT a.layer, a.stream, a.sae_id, h.n_live, h.most_frequent,
    h.most_texts / (SELECT count(*) FROM texts AS x WHERE x.run_id = run AND x.n_tokens > 0)
        AS coverage,
    h.strongest, h.peak_activation, d.n_found, d.n_categories, d.mean_best_score, d.mean_best_auroc
FROM saes AS a
JOIN shape AS h ON h.sae_id = a.sae_id
LEFT JOIN found AS d ON d.sae_id = a.sae_id
WHERE a.run_id = run
ORDER BY a.layer, a.stream, a.sae_id;
