-- The features of one SAE in two runs that used it: in how many tokens and texts each is active, its
-- activation, and EFAS, side by side. `within_groups` is what groups of the same texts add to `within`.
CREATE OR REPLACE MACRO compare_rates(
    run VARCHAR, sae VARCHAR, other_run VARCHAR, other_sae VARCHAR, of_variant VARCHAR := 'lens'
) AS TABLE
SELECT a.feature_id, a.density, b.density AS other_density, a.n_texts, b.n_texts AS other_n_texts,
    a.mean_activation, b.mean_activation AS other_mean_activation,
    a.top_category, b.top_category AS other_top_category,
    e.within, e.t, e.n_texts AS n_efas_texts, e.within_groups, g.within AS other_within,
    g.t AS other_t, g.n_texts AS other_n_efas_texts, g.within_groups AS other_within_groups
FROM features AS a
JOIN features AS b
    ON b.run_id = other_run AND b.sae_id = other_sae AND b.feature_id = a.feature_id
LEFT JOIN efas AS e ON e.run_id = run AND e.sae_id = sae AND e.feature_id = a.feature_id
    AND e.variant = of_variant
LEFT JOIN efas AS g ON g.run_id = other_run AND g.sae_id = other_sae
    AND g.feature_id = a.feature_id AND g.variant = of_variant
WHERE a.run_id = run AND a.sae_id = sae
ORDER BY abs(a.density - b.density) DESC, a.feature_id;
