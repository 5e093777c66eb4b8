CREATE OR REPLACE TEMP TABLE run_tokens AS
SELECT t.token_index, t.context_id, c.text_id, t.is_masked
FROM tokens AS t
JOIN contexts AS c ON c.run_id = t.run_id AND c.context_id = t.context_id
WHERE t.run_id = $run_id;
