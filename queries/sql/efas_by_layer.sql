-- EFAS of each SAE of a run, by layer: how many features could be tested, how many are discoveries,
-- how large |EFAS| is, and the share that is positive. The root mean square of t is 1 without signal.
CREATE OR REPLACE MACRO efas_by_layer(run VARCHAR, of_variant VARCHAR := 'lens') AS TABLE
SELECT a.layer, a.stream, e.sae_id, count(e.t) AS n_tested,
    count(*) FILTER (e.q < 0.05) AS n_discoveries,
    count(*) FILTER (e.p_familywise < 0.05) AS n_familywise,
    avg((e.p < 0.05)::INTEGER) AS share_p05,
    avg(abs(e.efas)) FILTER (e.t IS NOT NULL) AS mean_abs_efas,
    max(abs(e.efas)) FILTER (e.t IS NOT NULL) AS max_abs_efas,
    sqrt(avg(e.t * e.t)) AS rms_t,
    avg((e.within > 0)::INTEGER) FILTER (e.t IS NOT NULL) AS share_positive,
    corr(abs(e.efas), ln(e.n_active)) FILTER (e.t IS NOT NULL) AS rate_correlation
FROM efas AS e
JOIN saes AS a ON a.run_id = run AND a.sae_id = e.sae_id
WHERE e.run_id = run AND e.variant = of_variant
GROUP BY a.layer, a.stream, e.sae_id
ORDER BY a.layer, a.stream, e.sae_id;
