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
    token_class(p.token) AS class
FROM pieces AS p;
