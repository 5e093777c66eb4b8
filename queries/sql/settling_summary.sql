-- In how many tokens of each category the lens settles at each layer, and the share of those that
-- settle on the true next token; `is_all` is every token.
CREATE OR REPLACE MACRO settling_summary(run VARCHAR) AS TABLE
WITH chosen AS (
    SELECT t.token_index, x.category, t.rank
    FROM tokens AS t
    JOIN contexts AS c ON c.run_id = run AND c.context_id = t.context_id
    LEFT JOIN texts AS x ON x.run_id = run AND x.text_id = c.text_id
    WHERE t.run_id = run AND NOT t.is_masked AND t.rank IS NOT NULL
),
read AS (
    SELECT e.token_index, e.layer, e.top_vocab_id,
        last_value(e.top_vocab_id) OVER layers AS final_id
    FROM energies AS e
    WHERE e.run_id = run
    WINDOW layers AS (
        PARTITION BY e.token_index ORDER BY e.layer
        ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
    )
),
settled AS (
    SELECT r.token_index,
        coalesce(max(r.layer) FILTER (r.top_vocab_id <> r.final_id) + 1, min(r.layer)) AS layer
    FROM read AS r
    GROUP BY r.token_index
)
SELECT s.layer AS settling_layer, h.category, grouping(h.category) = 1 AS is_all, count(*) AS n_tokens,
    count(*) / sum(count(*)) OVER (PARTITION BY h.category, grouping(h.category)) AS share,
    avg((h.rank = 0)::INTEGER) AS right_rate
FROM settled AS s
JOIN chosen AS h ON h.token_index = s.token_index
GROUP BY GROUPING SETS ((s.layer, h.category), (s.layer))
ORDER BY is_all DESC, h.category, s.layer;
