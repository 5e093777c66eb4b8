-- The tokens of one context in order, with one feature's activation on each (NULL where it is
-- not active) and the energy of the next token.
CREATE OR REPLACE MACRO context_tokens(
    run VARCHAR, in_context BIGINT, sae VARCHAR := NULL, feature BIGINT := NULL
) AS TABLE
WITH active AS (
    SELECT c.token_index, c.activation
    FROM feature_codes AS c
    WHERE c.run_id = run AND c.sae_id = sae AND c.feature_id = feature
)
SELECT t.token_index, t.pos, t.vocab_id, t.token, t.token_bytes, t.is_special, t.is_masked,
    a.activation, t.energy, t.entropy, t.confidence, t.rank
FROM tokens AS t
LEFT JOIN active AS a ON a.token_index = t.token_index
WHERE t.run_id = run AND t.context_id = in_context
ORDER BY t.token_index;
