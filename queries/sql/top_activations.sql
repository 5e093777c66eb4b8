-- The tokens on which one feature is strongest, each with the text around it.
CREATE OR REPLACE MACRO top_activations(
    run VARCHAR, sae VARCHAR, feature BIGINT, k BIGINT := 20,
    with_special BOOLEAN := false, with_first BOOLEAN := false, with_sinks BOOLEAN := false
) AS TABLE
WITH strongest AS (
    SELECT c.token_index, c.activation, t.context_id, t.pos, t.token, t.char_start, t.char_end
    FROM feature_codes AS c
    JOIN tokens AS t ON t.run_id = run AND t.token_index = c.token_index
    WHERE c.run_id = run AND c.sae_id = sae AND c.feature_id = feature
        AND (with_special OR NOT t.is_special)
        AND (with_first OR NOT t.is_first) AND (with_sinks OR NOT t.is_sink)
    ORDER BY abs(c.activation) DESC, c.token_index
    LIMIT k
)
SELECT s.token_index, s.activation, s.token, x.category, x.text_id, s.context_id, s.pos,
    substr(x.text, greatest(s.char_start - 40, 0) + 1, s.char_start - greatest(s.char_start - 40, 0))
        AS text_before,
    substr(x.text, s.char_end + 1, 40) AS text_after
FROM strongest AS s
JOIN contexts AS c ON c.run_id = run AND c.context_id = s.context_id
LEFT JOIN texts AS x ON x.run_id = run AND x.text_id = c.text_id
ORDER BY abs(s.activation) DESC, s.token_index;
