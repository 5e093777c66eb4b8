-- Every token of the run with its piece of text and the class of that.
CREATE OR REPLACE TEMP TABLE pattern_vocabulary AS
WITH pieces AS (
    SELECT t.vocab_id, min(t.token) AS token
    FROM tokens AS t
    WHERE t.run_id = $run_id
    GROUP BY t.vocab_id
)
SELECT
    p.vocab_id,
    p.token,
    CASE
        WHEN regexp_full_match(p.token, '\s*[\r\n]+\s*') THEN 'line breaks'
        WHEN regexp_full_match(p.token, '\s+') THEN 'white space'
        WHEN regexp_full_match(p.token, '\s*\p{Nd}+') THEN 'digits'
        WHEN regexp_full_match(p.token, '\s*[(\[{<]+') THEN 'opening brackets'
        WHEN regexp_full_match(p.token, '\s*[)\]}>]+') THEN 'closing brackets'
        WHEN regexp_full_match(p.token, '\s*["''`“”‘’«»„]+') THEN 'quotation marks'
        WHEN regexp_full_match(p.token, '\s*[.!?…]+') THEN 'ends of sentences'
        WHEN regexp_full_match(p.token, '\s*[\p{P}\p{S}]+') THEN 'punctuation and symbols'
        WHEN regexp_full_match(p.token, '\s*\p{Lu}{2,}') THEN 'capitals'
        WHEN regexp_full_match(p.token, '\s+\p{Lu}.*') THEN 'words with a capital'
        WHEN regexp_full_match(p.token, '\s+\p{L}.*') THEN 'beginnings of words'
        WHEN regexp_full_match(p.token, '\p{L}.*') THEN 'insides of words'
        ELSE 'other tokens'
    END AS class
FROM pieces AS p;
