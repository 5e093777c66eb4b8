-- Tokens of the vocabulary that hold some words, whatever the case, of those that a run's texts have:
-- the commonest first, with the mean energy of the tokens that come after them.
CREATE OR REPLACE MACRO search_tokens(run VARCHAR, words VARCHAR, k BIGINT := 20) AS TABLE
WITH counted AS (
    SELECT t.token, count(*) AS n, avg(t.energy) AS mean_energy
    FROM tokens AS t
    WHERE t.run_id = run AND trim(words) != '' AND contains(lower(t.token), lower(trim(words)))
    GROUP BY t.token
)
SELECT c.token, c.n, c.mean_energy
FROM counted AS c
ORDER BY c.n DESC, c.token
LIMIT k;
