WITH peaks AS (
    SELECT
        p.feature_id,
        p.context_id,
        arg_max(p.token_index, abs(p.activation)) AS token_index,
        arg_max(p.activation, abs(p.activation)) AS activation
    FROM part AS p
    WHERE NOT p.is_masked
    GROUP BY p.feature_id, p.context_id
),
ranked AS (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY peaks.feature_id ORDER BY abs(peaks.activation) DESC, peaks.context_id
        ) - 1 AS rank
    FROM peaks
)
SELECT
    $run_id AS run_id,
    $sae_id AS sae_id,
    r.feature_id,
    r.rank::SMALLINT AS rank,
    r.context_id,
    r.token_index,
    r.activation
FROM ranked AS r
WHERE r.rank < $k
ORDER BY r.feature_id, r.rank;
