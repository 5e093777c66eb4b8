-- Heads by one of their scores, the highest first: induction, previous_token, duplicate_token,
-- self_token, first_token, copying, matching, entropy, distance or output_norm. Empty until
-- `energylens heads` has measured them.
CREATE OR REPLACE MACRO head_ranking(
    run VARCHAR, by_score VARCHAR := 'induction', k BIGINT := 1000
) AS TABLE
SELECT h.layer, h.head, h.kind, h.induction, h.previous_token, h.duplicate_token, h.self_token,
    h.first_token, h.copying, h.matching, h.entropy, h.distance, h.output_norm, h.distance_variance,
    h.induction_uniform, h.previous_token_uniform, h.duplicate_token_uniform, h.self_token_uniform,
    h.first_token_uniform, h.entropy_uniform, h.distance_uniform, h.copying_random_025,
    h.copying_random_975, h.matching_random_025, h.matching_random_975, h.n_tokens, h.n_duplicate,
    h.n_induction
FROM heads AS h
WHERE h.run_id = run
ORDER BY CASE by_score
    WHEN 'induction' THEN h.induction
    WHEN 'previous_token' THEN h.previous_token
    WHEN 'duplicate_token' THEN h.duplicate_token
    WHEN 'self_token' THEN h.self_token
    WHEN 'first_token' THEN h.first_token
    WHEN 'copying' THEN h.copying
    WHEN 'matching' THEN h.matching
    WHEN 'entropy' THEN h.entropy
    WHEN 'distance' THEN h.distance
    WHEN 'output_norm' THEN h.output_norm
END DESC NULLS LAST, h.layer, h.head
LIMIT k;
