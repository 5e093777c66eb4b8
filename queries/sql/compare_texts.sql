-- Two runs over the same texts, text by text (matched by their SHA-256): mean energy of a token, and
-- energy a character, which also compares models of different vocabularies.
CREATE OR REPLACE MACRO compare_texts(run VARCHAR, other_run VARCHAR) AS TABLE
WITH totals AS (
    SELECT x.run_id, x.text_id, x.sha256, x.category, length(x.text) AS n_characters,
        sum(t.energy) AS total, avg(t.energy) AS mean_energy, count(t.energy) AS n_tokens
    FROM texts AS x
    JOIN contexts AS c ON c.run_id = x.run_id AND c.text_id = x.text_id
    JOIN tokens AS t ON t.run_id = c.run_id AND t.context_id = c.context_id
    WHERE x.run_id IN (run, other_run) AND NOT t.is_masked
    GROUP BY ALL
    HAVING count(t.energy) > 0
),
numbered AS (
    SELECT t.*, row_number() OVER (PARTITION BY t.run_id, t.sha256 ORDER BY t.text_id) AS copy
    FROM totals AS t
)
SELECT a.text_id, b.text_id AS other_text_id, a.category, a.n_tokens, b.n_tokens AS other_n_tokens,
    a.mean_energy, b.mean_energy AS other_mean_energy,
    a.total / a.n_characters AS energy_a_character,
    b.total / b.n_characters AS other_energy_a_character
FROM numbered AS a
JOIN numbered AS b ON b.run_id = other_run AND b.sha256 = a.sha256 AND b.copy = a.copy
WHERE a.run_id = run
ORDER BY a.text_id;
