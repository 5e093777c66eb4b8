-- The features of an SAE by EFAS: how the activation goes with the negative energy gradient along the
-- feature. Only features that could be tested, the surest first (`q`, then |t|). Not importance: a
-- value says that the read-out is miscalibrated along the feature where it is active.
CREATE OR REPLACE MACRO efas_ranking(
    run VARCHAR, sae VARCHAR, of_variant VARCHAR := 'lens', k BIGINT := 20
) AS TABLE
SELECT e.feature_id, e.efas, e.t_efas, e.p_efas, e.q_efas, e.within, e.within_low, e.within_high,
    e.t, e.p, e.q, e.p_flip, e.p_familywise, e.gate, e.dose, e.smd, e.attribution,
    e.adjusted, e.n_active, e.n_texts,
    f.top_category, f.is_dense, l.description AS label
FROM efas AS e
JOIN features AS f ON f.run_id = run AND f.sae_id = sae AND f.feature_id = e.feature_id
LEFT JOIN explanations AS l
    ON l.run_id = run AND l.sae_id = sae AND l.feature_id = e.feature_id AND l.is_label
WHERE e.run_id = run AND e.sae_id = sae AND e.variant = of_variant AND e.t IS NOT NULL
ORDER BY e.q, abs(e.t) DESC, e.feature_id
LIMIT k;
