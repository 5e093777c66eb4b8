-- EFAS without the winner's curse: features picked on the texts of even number by |t| (the `k`
-- largest), and what the texts of odd number say of them.
CREATE OR REPLACE MACRO efas_split(
    run VARCHAR, sae VARCHAR, of_variant VARCHAR := 'lens', k BIGINT := 20
) AS TABLE
SELECT e.feature_id, e.t_even AS t_selected, e.p_even AS p_selected, e.t_odd AS t_reported,
    e.p_odd AS p_reported, sign(e.t_even) = sign(e.t_odd) AS is_same_sign, e.efas, e.t AS t_whole,
    e.n_active
FROM efas AS e
WHERE e.run_id = run AND e.sae_id = sae AND e.variant = of_variant AND e.t_even IS NOT NULL
ORDER BY abs(e.t_even) DESC, e.feature_id
LIMIT k;
