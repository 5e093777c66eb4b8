-- The tokens one feature's decoder direction promotes ('top') and suppresses ('bottom') most.
CREATE OR REPLACE MACRO promoted_tokens(run VARCHAR, sae VARCHAR, feature BIGINT) AS TABLE
SELECT l.direction, l.rank, l.vocab_id, l.token, l.logit_weight
FROM feature_logits AS l
WHERE l.run_id = run AND l.sae_id = sae AND l.feature_id = feature
ORDER BY l.direction DESC, l.rank;
