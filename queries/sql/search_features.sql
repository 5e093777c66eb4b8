-- Features that some words lead to, the best first: by what they are said to stand for (all words),
-- by the tokens and the places of the texts they are strongest at, by the tokens they promote, and by
-- the category they are strongest in (the words as they are), whatever the case. `score` adds up: 1
-- and the explanation's own score, the share of the strongest contexts whose token has the words, half
-- the share of those that have them within 40 characters, half of one over one and the rank of the
-- promoted token, and a tenth for the category. Below `min_score` a feature is not listed. NULL for the
-- SAE means all SAEs of the run.
CREATE OR REPLACE MACRO search_features(
    run VARCHAR, words VARCHAR, in_sae VARCHAR := NULL, k BIGINT := 50, min_score DOUBLE := NULL
) AS TABLE
WITH explained AS (
    SELECT
        e.sae_id,
        e.feature_id,
        arg_max(e.description, coalesce(e.score, 0)) AS said,
        1 + least(greatest(max(coalesce(e.score, 0)), 0), 1) AS score
    FROM explanations AS e
    WHERE e.run_id = run AND (in_sae IS NULL OR e.sae_id = in_sae)
        AND list_bool_and(
            list_transform(
                regexp_split_to_array(lower(trim(words)), '\s+'),
                lambda w: contains(lower(e.description), w)
            )
        )
    GROUP BY e.sae_id, e.feature_id
),
said_in AS (
    SELECT w.context_id, x.text
    FROM texts AS x
    JOIN contexts AS w ON w.run_id = run AND w.text_id = x.text_id
    WHERE x.run_id = run AND contains(lower(x.text), lower(trim(words)))
),
peaks AS (
    SELECT
        c.sae_id,
        c.feature_id,
        contains(lower(t.token), lower(trim(words))) AS is_token,
        contains(lower(substr(x.text, greatest(t.char_start - 39, 1), 80)), lower(trim(words)))
            AS is_near
    FROM top_contexts AS c
    JOIN tokens AS t ON t.run_id = run AND t.token_index = c.token_index
    LEFT JOIN said_in AS x ON x.context_id = c.context_id
    WHERE c.run_id = run AND (in_sae IS NULL OR c.sae_id = in_sae)
),
strongest AS (
    SELECT
        p.sae_id,
        p.feature_id,
        avg(p.is_token::INTEGER) AS share_of_tokens,
        avg(coalesce(p.is_near, false)::INTEGER) AS share_of_contexts
    FROM peaks AS p
    GROUP BY p.sae_id, p.feature_id
),
promoted AS (
    SELECT
        l.sae_id,
        l.feature_id,
        arg_min(l.token, l.rank) AS token,
        min(l.rank) AS rank
    FROM feature_logits AS l
    WHERE l.run_id = run AND (in_sae IS NULL OR l.sae_id = in_sae) AND l.direction = 'top'
        AND contains(lower(l.token), lower(trim(words)))
    GROUP BY l.sae_id, l.feature_id
),
found AS (
    SELECT
        f.sae_id,
        f.feature_id,
        coalesce(e.score, 0) + coalesce(s.share_of_tokens, 0)
        + coalesce(s.share_of_contexts, 0) / 2 + coalesce(0.5 / (1 + p.rank), 0)
        + coalesce(contains(lower(f.top_category), lower(trim(words)))::INTEGER, 0) / 10 AS score,
        e.said,
        s.share_of_tokens,
        s.share_of_contexts,
        p.token AS promoted,
        f.top_category,
        f.n_active,
        f.max_activation
    FROM features AS f
    LEFT JOIN explained AS e ON e.sae_id = f.sae_id AND e.feature_id = f.feature_id
    LEFT JOIN strongest AS s ON s.sae_id = f.sae_id AND s.feature_id = f.feature_id
    LEFT JOIN promoted AS p ON p.sae_id = f.sae_id AND p.feature_id = f.feature_id
    WHERE f.run_id = run AND (in_sae IS NULL OR f.sae_id = in_sae)
)
SELECT o.sae_id, o.feature_id, l.description AS label, o.score, o.said, o.share_of_tokens,
    o.share_of_contexts, o.promoted, o.top_category, o.n_active, o.max_activation
FROM found AS o
LEFT JOIN explanations AS l
    ON l.run_id = run AND l.sae_id = o.sae_id AND l.feature_id = o.feature_id AND l.is_label
WHERE o.score > 0 AND o.score >= coalesce(min_score, 0) AND trim(words) != ''
ORDER BY o.score DESC, o.sae_id, o.feature_id
LIMIT k;
