-- The features of the same SAE whose decoder directions are closest to one feature's.
CREATE OR REPLACE MACRO similar_features(run VARCHAR, sae VARCHAR, feature BIGINT) AS TABLE
SELECT n.rank, n.neighbour_id, n.cosine, f.density, f.max_activation, f.top_category
FROM feature_neighbours AS n
LEFT JOIN features AS f
    ON f.run_id = run AND f.sae_id = sae AND f.feature_id = n.neighbour_id
WHERE n.run_id = run AND n.sae_id = sae AND n.feature_id = feature
ORDER BY n.rank;
