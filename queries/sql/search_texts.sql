-- Texts that hold some words, whatever the case: those that hold them most often first, with what
-- stands around the first place.
CREATE OR REPLACE MACRO search_texts(run VARCHAR, words VARCHAR, k BIGINT := 20) AS TABLE
WITH held AS (
    SELECT x.text_id, x.category, x.text, lower(x.text) AS lowered, lower(trim(words)) AS wanted
    FROM texts AS x
    WHERE x.run_id = run AND trim(words) != '' AND contains(lower(x.text), lower(trim(words)))
),
counted AS (
    SELECT
        h.text_id,
        h.category,
        (length(h.lowered) - length(replace(h.lowered, h.wanted, ''))) // length(h.wanted)
            AS n_times,
        substr(h.text, greatest(strpos(h.lowered, h.wanted) - 20, 1), 60) AS snippet
    FROM held AS h
)
SELECT c.text_id, c.category, c.n_times, c.snippet
FROM counted AS c
ORDER BY c.n_times DESC, c.text_id
LIMIT k;
