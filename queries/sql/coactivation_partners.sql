-- The stored partners of one feature, by tokens or by texts: first those with which it shares more
-- texts than texts of the same length give (`q` below 0.05), the highest phi first. Jaccard is shown
-- beside it, and dense partners are marked: they share much with everything.
CREATE OR REPLACE MACRO coactivation_partners(
    run VARCHAR, sae VARCHAR, feature BIGINT, by_unit VARCHAR := 'token', k BIGINT := 20
) AS TABLE
SELECT c.partner_id, c.n_both, c.n_feature, c.n_partner, c.jaccard, c.lift, c.pmi, c.phi, c.cosine,
    c.n_texts_both, c.n_texts_expected, c.p, c.q, c.partner_is_dense, f.top_category, l.description AS label
FROM coactivation AS c
JOIN features AS f ON f.run_id = run AND f.sae_id = sae AND f.feature_id = c.partner_id
LEFT JOIN explanations AS l
    ON l.run_id = run AND l.sae_id = sae AND l.feature_id = c.partner_id AND l.is_label
WHERE c.run_id = run AND c.sae_id = sae AND c.feature_id = feature AND c.unit = by_unit
ORDER BY coalesce(c.q, 1) < 0.05 DESC, c.rank
LIMIT k;
