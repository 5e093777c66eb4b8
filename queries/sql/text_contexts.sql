-- The contexts of one text, in order.
CREATE OR REPLACE MACRO text_contexts(run VARCHAR, in_text BIGINT) AS TABLE
SELECT c.context_id, c.part, c.n_tokens
FROM contexts AS c
WHERE c.run_id = run AND c.text_id = in_text
ORDER BY c.part;
