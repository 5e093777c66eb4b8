-- EFAS within each category of texts: features tested, discoveries, and the surest feature.
CREATE OR REPLACE MACRO efas_by_category(
    run VARCHAR, sae VARCHAR, of_variant VARCHAR := 'lens'
) AS TABLE
SELECT e.category, count(e.t) AS n_tested, count(*) FILTER (e.q < 0.05) AS n_discoveries,
    avg(abs(e.efas)) FILTER (e.t IS NOT NULL) AS mean_abs_efas, sqrt(avg(e.t * e.t)) AS rms_t,
    arg_max(e.feature_id, abs(e.t)) AS surest_feature, arg_max(e.efas, abs(e.t)) AS its_efas,
    arg_max(e.t, abs(e.t)) AS its_t, arg_max(e.q, abs(e.t)) AS its_q
FROM efas_categories AS e
WHERE e.run_id = run AND e.sae_id = sae AND e.variant = of_variant
GROUP BY e.category
ORDER BY e.category;
