-- Activations of a range of features at the tokens of the patterns.
CREATE OR REPLACE TEMP TABLE pattern_part AS
WITH strongest AS (
    SELECT p.feature_id, max(abs(p.activation)) AS most
    FROM part AS p
    WHERE NOT p.is_masked
    GROUP BY p.feature_id
)
SELECT
    p.feature_id,
    t.text_id,
    t.half,
    t.slots,
    abs(p.activation) >= $strong * s.most AS is_strong
FROM part AS p
JOIN pattern_tokens AS t ON t.token_index = p.token_index
JOIN strongest AS s ON s.feature_id = p.feature_id;
