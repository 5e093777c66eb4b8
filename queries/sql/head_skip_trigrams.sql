-- What one head's weights say of tokens alone: after `source`, at `destination`, `out_token` is
-- likelier. The strongest first.
CREATE OR REPLACE MACRO head_skip_trigrams(
    run VARCHAR, from_layer BIGINT, at_head BIGINT, k BIGINT := 20
) AS TABLE
SELECT g.rank, g.source, g.destination, g.out_token, g.score, g.logit, g.strength
FROM skip_trigrams AS g
WHERE g.run_id = run AND g.layer = from_layer AND g.head = at_head
ORDER BY g.rank
LIMIT k;
