CREATE OR REPLACE TEMP TABLE part AS
SELECT c.feature_id, c.token_index, c.activation, t.context_id, t.text_id, t.is_masked
FROM sorted_codes AS c
JOIN run_tokens AS t ON t.token_index = c.token_index
WHERE c.feature_id >= $first AND c.feature_id < $end;
