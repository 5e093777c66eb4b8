-- Every feature of an SAE against every category of texts. A text is strong for a feature when its
-- mean activation over real tokens is at least `threshold` of the feature's strongest text; score is
-- strong texts inside the category less strong texts outside. p is the exact permutation p of the
-- score (labels shuffled over texts: hypergeometric), q is Benjamini-Hochberg over the SAE's pairs.
-- `with_padding` divides by the longest text instead of each text's own length, as a mean over
-- padded rows does: short texts fade, and specialists of short texts with them.
CREATE OR REPLACE MACRO find_specialists(
    run VARCHAR, sae VARCHAR, threshold DOUBLE := 0.25, with_padding BOOLEAN := false
) AS TABLE
WITH sized AS (
    SELECT c.text_id, any_value(x.category) AS category, count(*) AS n
    FROM tokens AS t
    JOIN contexts AS c ON c.run_id = run AND c.context_id = t.context_id
    LEFT JOIN texts AS x ON x.run_id = run AND x.text_id = c.text_id
    WHERE t.run_id = run AND NOT t.is_masked
    GROUP BY c.text_id
),
whole AS (
    SELECT count(*) AS n_texts, max(s.n) AS longest FROM sized AS s
),
category_sizes AS (
    SELECT s.category, count(*) AS n_in FROM sized AS s WHERE s.category IS NOT NULL GROUP BY 1
),
active AS (
    SELECT f.feature_id, s.category,
        f.mean_activation::DOUBLE * CASE WHEN with_padding THEN s.n / w.longest ELSE 1 END AS v
    FROM feature_texts AS f
    JOIN sized AS s ON s.text_id = f.text_id
    CROSS JOIN whole AS w
    WHERE f.run_id = run AND f.sae_id = sae
),
peaks AS (
    SELECT a.feature_id, max(a.v) AS peak, count(*) AS n_active, sum(a.v) AS total,
        count(*) FILTER (a.v < 0) AS n_below,
        count(*) FILTER (a.v > 0 AND a.v >= threshold * p.peak) AS n_strong
    FROM active AS a
    JOIN (SELECT b.feature_id, max(b.v) AS peak FROM active AS b GROUP BY 1) AS p
        ON p.feature_id = a.feature_id
    GROUP BY a.feature_id
),
ranked AS (
    SELECT a.feature_id, a.category, a.v, (a.v > 0 AND a.v >= threshold * p.peak) AS is_strong,
        rank() OVER (PARTITION BY a.feature_id ORDER BY a.v)
        + (count(*) OVER (PARTITION BY a.feature_id, a.v) - 1) / 2
        + CASE WHEN a.v > 0 THEN w.n_texts - p.n_active ELSE 0 END AS place
    FROM active AS a
    JOIN peaks AS p ON p.feature_id = a.feature_id
    CROSS JOIN whole AS w
),
inside AS (
    SELECT r.feature_id, r.category, count(*) AS n_active_in, sum(r.v) AS total_in,
        count(*) FILTER (r.is_strong) AS n_strong_in, sum(r.place) AS places
    FROM ranked AS r
    WHERE r.category IS NOT NULL
    GROUP BY ALL
),
counted AS (
    SELECT p.feature_id, z.category, z.n_in, w.n_texts - z.n_in AS n_out,
        coalesce(i.n_strong_in, 0) AS n_strong_in,
        p.n_strong - coalesce(i.n_strong_in, 0) AS n_strong_out,
        p.n_strong, w.n_texts, coalesce(i.total_in, 0) AS total_in, p.total,
        coalesce(i.places, 0) + (z.n_in - coalesce(i.n_active_in, 0))
            * (p.n_below + (w.n_texts - p.n_active + 1) / 2) AS places
    FROM peaks AS p
    CROSS JOIN category_sizes AS z
    CROSS JOIN whole AS w
    LEFT JOIN inside AS i ON i.feature_id = p.feature_id AND i.category = z.category
),
outcomes AS (
    SELECT DISTINCT c.n_texts, c.n_in, c.n_out, c.n_strong, c.n_strong_in FROM counted AS c
),
tested AS (
    SELECT o.n_in, o.n_strong, o.n_strong_in,
        least(1.0, list_sum(list_transform(
            range(o.n_strong_in, least(o.n_strong, o.n_in) + 1),
            lambda i: CASE WHEN o.n_strong - i > o.n_out THEN 0.0 ELSE exp(
                lgamma(o.n_in + 1) - lgamma(i + 1) - lgamma(o.n_in - i + 1)
                + lgamma(o.n_out + 1) - lgamma(o.n_strong - i + 1)
                - lgamma(o.n_out - o.n_strong + i + 1)
                - lgamma(o.n_texts + 1) + lgamma(o.n_strong + 1)
                + lgamma(o.n_texts - o.n_strong + 1)
            ) END
        ))) AS p
    FROM outcomes AS o
),
scored AS (
    SELECT c.*, t.p,
        count(*) OVER () AS m, count(*) OVER (ORDER BY t.p RANGE UNBOUNDED PRECEDING) AS r
    FROM counted AS c
    JOIN tested AS t
        ON t.n_in = c.n_in AND t.n_strong = c.n_strong AND t.n_strong_in = c.n_strong_in
)
SELECT s.category, s.feature_id, s.n_strong_in, s.n_strong_out, s.n_in, s.n_out,
    s.n_strong_in - s.n_strong_out AS score,
    s.n_strong_in / s.n_in AS rate_in,
    s.n_strong_out / nullif(s.n_out, 0) AS rate_out,
    s.total_in / s.n_in - (s.total - s.total_in) / nullif(s.n_out, 0) AS mean_difference,
    (s.places - s.n_in * (s.n_in + 1) / 2) / nullif(s.n_in * s.n_out, 0) AS auroc,
    ln((s.n_strong_in + 0.5) * (s.n_out - s.n_strong_out + 0.5)
        / ((s.n_in - s.n_strong_in + 0.5) * (s.n_strong_out + 0.5))) AS log_odds,
    s.p,
    least(1.0, min(s.p * s.m / s.r) OVER (ORDER BY s.p DESC RANGE UNBOUNDED PRECEDING)) AS q
FROM scored AS s
ORDER BY s.category, s.feature_id;
