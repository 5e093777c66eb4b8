-- What one unit of one feature adds to the logits of all tokens: moments, and a histogram.
CREATE OR REPLACE MACRO logit_distribution(run VARCHAR, sae VARCHAR, feature BIGINT) AS TABLE
SELECT
    d.n_vocab,
    d.lowest,
    d.highest,
    d.mean,
    d.std,
    d.skewness,
    d.kurtosis,
    d.histogram
FROM logit_distributions AS d
WHERE d.run_id = run AND d.sae_id = sae AND d.feature_id = feature;
