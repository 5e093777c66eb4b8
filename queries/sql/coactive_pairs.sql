-- The pairs of an SAE's features that go together most, by tokens or by texts, each pair once: first
-- those that share more texts than texts of the same length give (`q` below 0.05), by phi; a high
-- phi of a few tokens says little. With `with_dense`, pairs with a dense feature too; with
-- `least_both` and `most_q`, only pairs that are together so often, and whose q is at most that.
CREATE OR REPLACE MACRO coactive_pairs(
    run VARCHAR, sae VARCHAR, by_unit VARCHAR := 'token', with_dense BOOLEAN := false,
    least_both BIGINT := 1, most_q DOUBLE := NULL, k BIGINT := 20
) AS TABLE
SELECT c.feature_id, c.partner_id, c.n_both, c.n_feature, c.n_partner, c.jaccard, c.lift, c.pmi,
    c.phi, c.cosine, c.n_texts_both, c.n_texts_expected, c.p, c.q, a.top_category, b.top_category AS partner_category
FROM coactivation AS c
JOIN features AS a ON a.run_id = run AND a.sae_id = sae AND a.feature_id = c.feature_id
JOIN features AS b ON b.run_id = run AND b.sae_id = sae AND b.feature_id = c.partner_id
WHERE c.run_id = run AND c.sae_id = sae AND c.unit = by_unit AND c.feature_id < c.partner_id
    AND (with_dense OR NOT (a.is_dense OR b.is_dense))
    AND c.n_both >= least_both AND (most_q IS NULL OR c.q <= most_q)
ORDER BY coalesce(c.q, 1) < 0.05 DESC, c.phi DESC, c.feature_id, c.partner_id
LIMIT k;
