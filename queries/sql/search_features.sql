-- Features that some words lead to, the best first: by what they are said to stand for (all words),
-- by the tokens and the places of the texts they are strongest at, and by the tokens they promote
-- (the words as they are), whatever the case. `score` adds up: 1 and the explanation's own score,
-- the share of the strongest contexts whose token has the words, half the share of those that have
-- them within 40 characters, and half of one over one and the rank of the promoted token. NULL for
-- the SAE means all SAEs of the run.
CREATE OR REPLACE MACRO search_features(
    run VARCHAR, words VARCHAR, in_sae VARCHAR := NULL, k BIGINT := 50
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
strongest AS (
    SELECT
        c.sae_id,
        c.feature_id,
        avg(contains(lower(t.token), lower(trim(words)))::INTEGER) AS share_of_tokens,
        avg(
            coalesce(
                contains(
                    lower(substr(x.text, greatest(t.char_start - 39, 1), 80)), lower(trim(words))
                ),
                false
            )::INTEGER
        ) AS share_of_contexts
    FROM top_contexts AS c
    JOIN tokens AS t ON t.run_id = c.run_id AND t.token_index = c.token_index
    JOIN contexts AS w ON w.run_id = c.run_id AND w.context_id = c.context_id
    JOIN texts AS x ON x.run_id = w.run_id AND x.text_id = w.text_id
    WHERE c.run_id = run AND (in_sae IS NULL OR c.sae_id = in_sae)
    GROUP BY c.sae_id, c.feature_id
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
        + coalesce(s.share_of_contexts, 0) / 2 + coalesce(0.5 / (1 + p.rank), 0) AS score,
        e.said,
        s.share_of_tokens,
        s.share_of_contexts,
        p.token AS promoted,
        f.n_active,
        f.max_activation
    FROM features AS f
    LEFT JOIN explained AS e ON e.sae_id = f.sae_id AND e.feature_id = f.feature_id
    LEFT JOIN strongest AS s ON s.sae_id = f.sae_id AND s.feature_id = f.feature_id
    LEFT JOIN promoted AS p ON p.sae_id = f.sae_id AND p.feature_id = f.feature_id
    WHERE f.run_id = run AND (in_sae IS NULL OR f.sae_id = in_sae)
)
SELECT o.sae_id, o.feature_id, l.description AS label, o.score, o.said, o.share_of_tokens,
    o.share_of_contexts, o.promoted, o.n_active, o.max_activation
FROM found AS o
LEFT JOIN explanations AS l
    ON l.run_id = run AND l.sae_id = o.sae_id AND l.feature_id = o.feature_id AND l.is_label
WHERE o.score > 0 AND trim(words) != ''
ORDER BY o.score DESC, o.sae_id, o.feature_id
LIMIT k;
