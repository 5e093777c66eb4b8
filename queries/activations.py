"""What is known of the activations a run keeps, without reading a vector."""

from typing import Any

import polars as pl

from energylens.db.schema import SINK_NORM_RATIO
from energylens.db.store import Cursors

OUTLIER_RATIO = 6.0
"""A dimension whose root mean square is above this many times the median dimension's is an outlier
(Dettmers et al. 2022 call a number of 6 one, where most are about 1)."""
MOST_OUTLIERS = 8
"""Dimensions named; the largest ones."""

_STATISTICS = """
WITH placed AS (
    SELECT n.hook_name, n.token_index, n.norm, NOT (t.is_special OR t.is_first) AS is_text
    FROM activation_norms AS n
    JOIN tokens AS t ON t.run_id = $run AND t.token_index = n.token_index
    WHERE n.run_id = $run AND isfinite(n.norm)
),
norms AS (
    SELECT p.hook_name, avg(p.norm) FILTER (p.is_text) AS mean_norm,
        (median(p.norm) FILTER (p.is_text))::DOUBLE AS median_norm,
        (max(p.norm) FILTER (p.is_text))::DOUBLE AS max_norm,
        arg_max(p.token_index, p.norm) FILTER (p.is_text) AS max_token,
        count(*) FILTER (NOT p.is_text) AS n_left_out,
        (max(p.norm) FILTER (NOT p.is_text))::DOUBLE AS max_norm_left_out
    FROM placed AS p
    GROUP BY p.hook_name
),
sinks AS (
    SELECT p.hook_name,
        avg((p.norm > $sink * m.median_norm)::INTEGER) FILTER (p.is_text) AS share_sinks
    FROM placed AS p
    JOIN norms AS m ON m.hook_name = p.hook_name
    GROUP BY p.hook_name
),
counts AS (
    SELECT s.hook_name, sum(s.n_tokens)::BIGINT AS n_tokens
    FROM activation_sums AS s
    WHERE s.run_id = $run
    GROUP BY s.hook_name
),
numbers AS (
    SELECT s.hook_name, unnest(s.sum_activation) AS a, unnest(s.sum_square) AS aa,
        generate_subscripts(s.sum_activation, 1) - 1 AS dimension
    FROM activation_sums AS s
    WHERE s.run_id = $run
),
dimensions AS (
    SELECT n.hook_name, n.dimension, sum(n.a) / c.n_tokens AS mean,
        sum(n.aa) / c.n_tokens AS mean_square
    FROM numbers AS n
    JOIN counts AS c ON c.hook_name = n.hook_name
    WHERE c.n_tokens > 0
    GROUP BY n.hook_name, n.dimension, c.n_tokens
),
typical AS (
    SELECT d.hook_name, count(*) AS d_in, sqrt(sum(d.mean * d.mean)) AS norm_of_mean,
        sum(d.mean_square - d.mean * d.mean) AS variance, median(sqrt(d.mean_square)) AS median_rms
    FROM dimensions AS d
    GROUP BY d.hook_name
),
ranked AS (
    SELECT d.*, row_number() OVER (
        PARTITION BY d.hook_name ORDER BY d.mean_square DESC, d.dimension
    ) AS rank
    FROM dimensions AS d
),
outliers AS (
    SELECT r.hook_name, list({
        dimension: r.dimension, mean: r.mean, rms: sqrt(r.mean_square),
        ratio: sqrt(r.mean_square) / t.median_rms
    } ORDER BY r.rank) AS outlier_dimensions
    FROM ranked AS r
    JOIN typical AS t ON t.hook_name = r.hook_name
    WHERE sqrt(r.mean_square) > $outlier * t.median_rms AND r.rank <= $most
    GROUP BY r.hook_name
)
SELECT c.hook_name, t.d_in, c.n_tokens, m.mean_norm, m.median_norm, t.norm_of_mean, t.variance,
    m.max_norm, m.max_norm / m.median_norm AS max_ratio, m.max_token, s.share_sinks, m.n_left_out,
    m.max_norm_left_out, t.median_rms, coalesce(o.outlier_dimensions, []) AS outlier_dimensions
FROM counts AS c
JOIN norms AS m ON m.hook_name = c.hook_name
JOIN sinks AS s ON s.hook_name = c.hook_name
LEFT JOIN typical AS t ON t.hook_name = c.hook_name
LEFT JOIN outliers AS o ON o.hook_name = c.hook_name
ORDER BY c.hook_name
"""


def activation_statistics(store: Cursors, run_id: str) -> list[dict[str, Any]]:
    """One row for each hook whose activations a run keeps, over the shards that are there.

    Special tokens and first ones are left out but for `n_left_out` and `max_norm_left_out`, which
    are of them. `variance` is the sum over dimensions, about the mean; `share_sinks` is the share
    of tokens with more than SINK_NORM_RATIO times the median norm.
    """
    values = {
        "run": run_id,
        "sink": SINK_NORM_RATIO,
        "outlier": OUTLIER_RATIO,
        "most": MOST_OUTLIERS,
    }
    return pl.DataFrame(store.cursor().sql(_STATISTICS, params=values).to_arrow_table()).to_dicts()
