-- The SAEs of two runs that read at the same place, side by side: how sparse, how faithful, how many
-- live features, categories with a specialist, and EFAS discoveries among the tested features.
CREATE OR REPLACE MACRO compare_saes(
    run VARCHAR, other_run VARCHAR, of_variant VARCHAR := 'lens'
) AS TABLE
WITH live AS (
    SELECT f.run_id, f.sae_id, count(*) FILTER (f.n_active > 0) AS n_live,
        avg(f.density) FILTER (f.n_active > 0) AS mean_density
    FROM features AS f
    WHERE f.run_id IN (run, other_run)
    GROUP BY ALL
),
found AS (
    SELECT s.run_id, s.sae_id,
        count(DISTINCT s.category) FILTER (s.score > 0 AND s.q < 0.05) AS n_found
    FROM specialists AS s
    WHERE s.run_id IN (run, other_run)
    GROUP BY ALL
),
aligned AS (
    SELECT e.run_id, e.sae_id, count(e.t) AS n_tested, count(*) FILTER (e.q < 0.05) AS n_discoveries,
        sqrt(avg(e.t * e.t)) AS rms_t
    FROM efas AS e
    WHERE e.run_id IN (run, other_run) AND e.variant = of_variant
    GROUP BY ALL
),
whole AS (
    SELECT a.run_id, a.sae_id, a.hook_name, a.layer, a.d_sae, a.weights_sha256, a.l0, a.fvu, l.n_live,
        l.mean_density, d.n_found, e.n_tested, e.n_discoveries, e.rms_t
    FROM saes AS a
    LEFT JOIN live AS l ON l.run_id = a.run_id AND l.sae_id = a.sae_id
    LEFT JOIN found AS d ON d.run_id = a.run_id AND d.sae_id = a.sae_id
    LEFT JOIN aligned AS e ON e.run_id = a.run_id AND e.sae_id = a.sae_id
)
SELECT a.hook_name, a.sae_id, b.sae_id AS other_sae_id,
    a.weights_sha256 = b.weights_sha256 AS is_same_sae, a.d_sae, b.d_sae AS other_d_sae,
    a.l0, b.l0 AS other_l0, a.fvu, b.fvu AS other_fvu, a.n_live, b.n_live AS other_n_live,
    a.mean_density, b.mean_density AS other_mean_density, a.n_found, b.n_found AS other_n_found,
    a.n_tested, b.n_tested AS other_n_tested, a.n_discoveries,
    b.n_discoveries AS other_n_discoveries, a.rms_t, b.rms_t AS other_rms_t
FROM whole AS a
JOIN whole AS b ON b.run_id = other_run AND b.hook_name = a.hook_name
WHERE a.run_id = run
ORDER BY a.layer, a.hook_name, a.sae_id, b.sae_id;
