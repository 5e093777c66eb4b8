-- How well the direct path from embedding to unembedding knows the texts: the share of tokens whose
-- next one is among those it raises most for them, beside the share that as many of the commonest
-- next tokens have (`commonest`), and as many drawn at random (`chance`).
CREATE OR REPLACE MACRO bigram_agreement(run VARCHAR) AS TABLE
WITH per_token AS (
    SELECT b.vocab_id, count(*) AS n_listed, sum(b.n_pair) AS n_right, any_value(b.n_token) AS n
    FROM bigrams AS b
    WHERE b.run_id = run
    GROUP BY b.vocab_id
),
whole AS (
    SELECT max(p.n_listed) AS n_listed, sum(p.n_right) AS n_right, sum(p.n) AS n FROM per_token AS p
),
ranked AS (
    SELECT count(*) AS n, row_number() OVER (ORDER BY count(*) DESC, t.vocab_id) AS place
    FROM tokens AS t
    WHERE t.run_id = run AND NOT t.is_special
    GROUP BY t.vocab_id
)
SELECT w.n_listed, w.n AS n_pairs, w.n_right / w.n AS agreement,
    (SELECT sum(r.n) FILTER (r.place <= w.n_listed) / sum(r.n) FROM ranked AS r) AS commonest,
    w.n_listed / (SELECT u.d_vocab FROM runs AS u WHERE u.run_id = run) AS chance
FROM whole AS w
WHERE w.n > 0;
