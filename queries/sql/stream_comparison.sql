-- The streams of a run (residual, attention, MLP) compared: their SAEs, live features, and how many
-- categories have a specialist in at least one SAE or, on average, in each.
CREATE OR REPLACE MACRO stream_comparison(run VARCHAR) AS TABLE
WITH best AS (
    SELECT a.stream, s.sae_id, s.category, arg_max(s, (s.score, s.auroc, -s.feature_id)) AS b
    FROM specialists AS s
    JOIN saes AS a ON a.run_id = run AND a.sae_id = s.sae_id
    WHERE s.run_id = run
    GROUP BY a.stream, s.sae_id, s.category
),
live AS (
    SELECT f.sae_id, count(*) FILTER (f.n_active > 0) AS n_live, count(*) AS n_features
    FROM features AS f
    WHERE f.run_id = run
    GROUP BY f.sae_id
),
sizes AS (
    SELECT a.stream, count(*) AS n_saes, sum(l.n_live) AS n_live, sum(l.n_features) AS n_features,
        avg(a.fvu) AS mean_fvu, avg(a.l0) AS mean_l0
    FROM saes AS a
    JOIN live AS l ON l.sae_id = a.sae_id
    WHERE a.run_id = run
    GROUP BY a.stream
),
found AS (
    SELECT b.stream, count(DISTINCT b.category) AS n_categories,
        count(DISTINCT b.category) FILTER (b.b.score > 0 AND b.b.q < 0.05) AS n_found_anywhere,
        avg((b.b.score > 0 AND b.b.q < 0.05)::INTEGER) AS share_found,
        avg(b.b.auroc) AS mean_best_auroc
    FROM best AS b
    GROUP BY b.stream
)
SELECT z.*, d.n_categories, d.n_found_anywhere, d.share_found, d.mean_best_auroc
FROM sizes AS z
LEFT JOIN found AS d ON d.stream = z.stream
ORDER BY z.stream;
