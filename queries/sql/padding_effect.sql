-- What a mean over padded rows does to an SAE's specialists: the best feature of each category with
-- real lengths and with every text padded to the longest, and how many are found each way.
CREATE OR REPLACE MACRO padding_effect(
    run VARCHAR, sae VARCHAR, threshold DOUBLE := 0.25
) AS TABLE
WITH both_ways AS (
    SELECT false AS is_padded, s.* FROM find_specialists(run, sae, threshold := threshold) AS s
    UNION ALL
    SELECT true, s.*
    FROM find_specialists(run, sae, threshold := threshold, with_padding := true) AS s
),
best AS (
    SELECT b.is_padded, b.category, arg_max(b, (b.score, b.auroc, -b.feature_id)) AS b,
        count(*) FILTER (b.score > 0 AND b.q < 0.05) AS n_found
    FROM both_ways AS b
    GROUP BY b.is_padded, b.category
),
lengths AS (
    SELECT x.category, avg(x.n_tokens) AS mean_tokens FROM texts AS x WHERE x.run_id = run GROUP BY 1
)
SELECT r.category, l.mean_tokens, r.b.feature_id AS feature_id, r.b.score AS score,
    r.b.auroc AS auroc, r.n_found, p.b.feature_id AS padded_feature_id, p.b.score AS padded_score,
    p.b.auroc AS padded_auroc, p.n_found AS padded_n_found
FROM best AS r
JOIN best AS p ON p.is_padded AND p.category = r.category
LEFT JOIN lengths AS l ON l.category = r.category
WHERE NOT r.is_padded
ORDER BY r.category;
