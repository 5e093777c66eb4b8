-- Any two features of an SAE, or of two SAEs of a run, by tokens and by texts, masked tokens left
-- out. Over texts, lift, pmi and phi are against texts of like length, as in `coactivation`. `z_within`
-- asks whether they meet more often within texts than their counts there give
-- (clustered by text), so that sharing a topic is not enough.
CREATE OR REPLACE MACRO coactive_pair(
    run VARCHAR, sae VARCHAR, feature BIGINT, partner BIGINT, partner_sae VARCHAR := NULL
) AS TABLE
WITH one AS (
    SELECT c.token_index, c.activation::DOUBLE AS z
    FROM feature_codes AS c
    WHERE c.run_id = run AND c.sae_id = sae AND c.feature_id = feature
),
other AS (
    SELECT c.token_index, c.activation::DOUBLE AS z
    FROM feature_codes AS c
    WHERE c.run_id = run AND c.sae_id = coalesce(partner_sae, sae) AND c.feature_id = partner
),
sized AS (
    SELECT c.text_id, count(*) AS n, count(a.z) AS n_a, count(b.z) AS n_b, count(a.z * b.z) AS n_ab,
        sum(a.z * a.z) AS aa, sum(b.z * b.z) AS bb, sum(a.z * b.z) AS ab
    FROM tokens AS t
    JOIN contexts AS c ON c.run_id = run AND c.context_id = t.context_id
    LEFT JOIN one AS a ON a.token_index = t.token_index
    LEFT JOIN other AS b ON b.token_index = t.token_index
    WHERE t.run_id = run AND NOT t.is_masked
    GROUP BY c.text_id
),
placed AS (
    SELECT s.*, count(*) OVER () AS n_texts,
        row_number() OVER (ORDER BY s.n, s.text_id) - 1 AS place
    FROM sized AS s
),
strata AS (
    SELECT p.place * greatest(1, least(64, p.n_texts // 10)) // p.n_texts AS stratum, count(*) AS n,
        count(*) FILTER (p.n_a > 0) AS n_a, count(*) FILTER (p.n_b > 0) AS n_b,
        count(*) FILTER (p.n_a > 0 AND p.n_b > 0) AS n_both
    FROM placed AS p
    GROUP BY 1
),
counted AS (
    SELECT 'token' AS unit, sum(s.n_ab) AS n_both, sum(s.n_a) AS n_feature, sum(s.n_b) AS n_partner,
        sum(s.n) AS n_units, sum(s.n_a)::DOUBLE * sum(s.n_b) / sum(s.n) AS n_expected,
        sum(s.n_a) * (1 - sum(s.n_a) / sum(s.n)) AS spread_a,
        sum(s.n_b) * (1 - sum(s.n_b) / sum(s.n)) AS spread_b,
        sum(s.ab) / sqrt(sum(s.aa) * sum(s.bb)) AS cosine,
        sum(s.n_ab - s.n_a * s.n_b / s.n)
            / nullif(sqrt(sum((s.n_ab - s.n_a * s.n_b / s.n) ** 2)), 0) AS z_within
    FROM sized AS s
    UNION ALL
    SELECT 'text', sum(s.n_both), sum(s.n_a), sum(s.n_b), sum(s.n), sum(s.n_a * s.n_b / s.n),
        sum(s.n_a * (1 - s.n_a / s.n)), sum(s.n_b * (1 - s.n_b / s.n)), NULL, NULL
    FROM strata AS s
)
SELECT c.unit, c.n_both, c.n_feature, c.n_partner, c.n_units, c.n_expected,
    c.n_both / nullif(c.n_feature + c.n_partner - c.n_both, 0) AS jaccard,
    c.n_both / nullif(c.n_expected, 0) AS lift,
    CASE WHEN c.n_both > 0 THEN ln(c.n_both / c.n_expected) END AS pmi,
    (c.n_both - c.n_expected) / nullif(sqrt(greatest(c.spread_a * c.spread_b, 0)), 0) AS phi,
    c.cosine, c.z_within
FROM counted AS c
ORDER BY c.unit DESC;
