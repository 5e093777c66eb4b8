"""Rows of Neuronpedia's tables Neuron and Activation, read for a range of features at once.

Masked tokens (special, first in a context, sinks) are text there, but silent: of a few of them the
activations would be the largest of many features.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa

N_INTERVALS, N_EACH = 5, 5
"""Intervals of a feature's activation, and contexts drawn from each."""
N_CORRELATED = 10
MOST_TOKENS = 256
"""Of a longer context, so many around the token that it is shown for."""
_AT_ONCE = 2_000_000
"""Tokens of contexts held as rows together."""

OF = "x.run_id = $run AND x.sae_id = $sae AND x.feature_id >= $first AND x.feature_id < $end"
"""Rows of a table x that are about the features of a range."""
_KEYS = '$model AS "modelId", $source AS layer, x.feature_id::VARCHAR AS "index"'

_NEURONS = f"""
WITH tokens_of AS (
    SELECT x.feature_id,
        list(x.token ORDER BY x.rank) FILTER (x.direction = 'top') AS pos_str,
        list(x.logit_weight ORDER BY x.rank) FILTER (x.direction = 'top') AS pos_values,
        list(x.token ORDER BY x.rank) FILTER (x.direction = 'bottom') AS neg_str,
        list(x.logit_weight ORDER BY x.rank) FILTER (x.direction = 'bottom') AS neg_values
    FROM feature_logits AS x WHERE {OF} GROUP BY x.feature_id
),
near AS (
    SELECT x.feature_id, list(x.neighbour_id ORDER BY x.rank) AS ids,
        list(x.cosine ORDER BY x.rank) AS cosines
    FROM feature_neighbours AS x WHERE {OF} GROUP BY x.feature_id
),
best AS (
    SELECT x.feature_id, x.rank, x.partner_id, x.phi, x.cosine
    FROM coactivation AS x
    WHERE {OF} AND x.unit = 'token' AND isfinite(x.phi) AND isfinite(x.cosine)
    QUALIFY row_number() OVER (PARTITION BY x.feature_id ORDER BY x.rank) <= $n_correlated
),
partners AS (
    SELECT b.feature_id, list(b.partner_id ORDER BY b.rank) AS ids,
        list(b.phi ORDER BY b.rank) AS phis, list(b.cosine ORDER BY b.rank) AS cosines
    FROM best AS b GROUP BY b.feature_id
),
shapes AS (
    SELECT x.feature_id, x.histogram, x.lowest::DOUBLE AS low,
        (x.highest::DOUBLE - x.lowest::DOUBLE) / len(x.histogram) AS width
    FROM logit_distributions AS x WHERE {OF}
),
bars AS (
    SELECT x.feature_id, x.histogram, x.min_activation::DOUBLE AS low,
        (x.max_activation::DOUBLE - x.min_activation::DOUBLE) / len(x.histogram) AS width
    FROM features AS x WHERE {OF}
)
SELECT {_KEYS}, $set AS "sourceSetName", $creator AS "creatorId", $created AS "createdAt",
    x.max_activation AS "maxActApprox", false AS "hasVector", []::DOUBLE[] AS vector,
    NULL AS "vectorLabel", NULL AS "vectorDefaultSteerStrength", $hook AS "hookName",
    coalesce(n.ids, []) AS "topkCosSimIndices", coalesce(n.cosines, []) AS "topkCosSimValues",
    []::INTEGER[] AS neuron_alignment_indices, []::DOUBLE[] AS neuron_alignment_values,
    []::DOUBLE[] AS neuron_alignment_l1, []::INTEGER[] AS correlated_neurons_indices,
    []::DOUBLE[] AS correlated_neurons_pearson, []::DOUBLE[] AS correlated_neurons_l1,
    coalesce(p.ids, []) AS correlated_features_indices,
    coalesce(p.phis, []) AS correlated_features_pearson,
    coalesce(p.cosines, []) AS correlated_features_l1,
    coalesce(t.neg_str, []) AS neg_str, coalesce(t.neg_values, []) AS neg_values,
    coalesce(t.pos_str, []) AS pos_str, coalesce(t.pos_values, []) AS pos_values,
    x.density AS frac_nonzero,
    coalesce(x.histogram, []) AS freq_hist_data_bar_heights,
    coalesce(list_transform(range(len(b.histogram)), lambda i: b.low + b.width * (i + 0.5)), [])
        AS freq_hist_data_bar_values,
    coalesce(s.histogram, []) AS logits_hist_data_bar_heights,
    coalesce(list_transform(range(len(s.histogram)), lambda i: s.low + s.width * (i + 0.5)), [])
        AS logits_hist_data_bar_values,
    []::DOUBLE[] AS decoder_weights_dist, NULL AS umap_cluster,
    NULL AS umap_log_feature_sparsity, NULL AS umap_x, NULL AS umap_y
FROM features AS x
LEFT JOIN tokens_of AS t ON t.feature_id = x.feature_id
LEFT JOIN near AS n ON n.feature_id = x.feature_id
LEFT JOIN partners AS p ON p.feature_id = x.feature_id
LEFT JOIN shapes AS s ON s.feature_id = x.feature_id
LEFT JOIN bars AS b ON b.feature_id = x.feature_id
WHERE {OF}
ORDER BY x.feature_id
"""  # noqa: S608 - names of ours

_TWINS = """
CREATE OR REPLACE TEMP TABLE twins AS
SELECT c.context_id, min(c.context_id) OVER (PARTITION BY c.contents) AS twin_id
FROM (
    SELECT t.context_id, bit_xor(hash(t.pos, t.vocab_id)) AS contents
    FROM tokens AS t WHERE t.run_id = $run GROUP BY t.context_id
) AS c
"""
"""Contexts by what they hold: those of the same tokens have one twin_id, the first of theirs."""
_N_TOKENS = "SELECT count(*) FROM tokens AS t WHERE t.run_id = $run AND NOT t.is_masked"
_OWN = f"""
CREATE OR REPLACE TEMP TABLE own AS
SELECT x.feature_id, x.token_index, x.activation, t.context_id, t.pos
FROM feature_codes AS x
JOIN tokens AS t ON t.run_id = $run AND t.token_index = x.token_index
WHERE {OF} AND NOT t.is_masked AND isfinite(x.activation)
"""  # noqa: S608
_SHOWN = f"""
CREATE OR REPLACE TEMP TABLE shown AS
WITH bounds AS (
    SELECT o.feature_id, min(o.activation)::DOUBLE AS low,
        (max(o.activation)::DOUBLE - min(o.activation)::DOUBLE) / $n_intervals AS width
    FROM own AS o GROUP BY o.feature_id
),
placed AS (
    SELECT o.*, b.low, b.width, CASE WHEN b.width > 0
        THEN least(floor((o.activation - b.low) / b.width), $n_intervals - 1)
        ELSE 0 END::BIGINT AS interval_id
    FROM own AS o JOIN bounds AS b ON b.feature_id = o.feature_id
),
counted AS (
    SELECT p.feature_id, p.interval_id, count(*) AS n FROM placed AS p GROUP BY ALL
),
peaks AS (
    SELECT p.*, w.twin_id FROM placed AS p JOIN twins AS w ON w.context_id = p.context_id
    QUALIFY row_number() OVER (
        PARTITION BY p.feature_id, p.context_id ORDER BY abs(p.activation) DESC, p.token_index
    ) = 1
),
top AS (
    SELECT x.feature_id, x.context_id, x.token_index, x.rank, w.twin_id
    FROM top_contexts AS x JOIN twins AS w ON w.context_id = x.context_id
    WHERE {OF}
),
weaker AS (
    SELECT p.* FROM peaks AS p
    ANTI JOIN top AS t ON t.feature_id = p.feature_id AND t.twin_id = p.twin_id
    QUALIFY row_number() OVER (PARTITION BY p.feature_id, p.twin_id ORDER BY p.context_id) = 1
),
drawn AS (
    SELECT w.*, row_number() OVER (
        PARTITION BY w.feature_id, w.interval_id ORDER BY hash(w.token_index), w.token_index
    ) - 1 AS rank
    FROM weaker AS w
),
chosen AS (
    SELECT t.feature_id, t.context_id, t.token_index, t.rank::BIGINT AS rank,
        NULL::BIGINT AS interval_id, -1.0::DOUBLE AS bin_min, -1.0::DOUBLE AS bin_max,
        -1.0::DOUBLE AS bin_contains
    FROM top AS t
    QUALIFY row_number() OVER (PARTITION BY t.feature_id, t.twin_id ORDER BY t.rank) = 1
    UNION ALL
    SELECT d.feature_id, d.context_id, d.token_index, d.rank, d.interval_id,
        d.low + d.interval_id * d.width, d.low + (d.interval_id + 1) * d.width, c.n / $n_tokens
    FROM drawn AS d
    JOIN counted AS c ON c.feature_id = d.feature_id AND c.interval_id = d.interval_id
    WHERE d.rank < $n_each
)
SELECT 'c' || left(sha256($salt || '/' || c.feature_id || '/' || c.context_id), 24) AS id,
    c.feature_id, c.context_id, c.bin_min, c.bin_max, c.bin_contains,
    c.token_index - c.context_id * $n_ctx AS at,
    row_number() OVER (
        ORDER BY c.feature_id, c.interval_id DESC NULLS FIRST, c.rank
    ) AS place
FROM chosen AS c
"""  # noqa: S608
_CODES = "SELECT o.feature_id, o.context_id, o.pos, o.activation FROM own AS o"
_TOKENS = """
SELECT t.context_id, t.token FROM tokens AS t
WHERE t.run_id = $run AND t.context_id IN (SELECT s.context_id FROM shown AS s)
ORDER BY t.context_id, t.pos
"""


@dataclass(frozen=True)
class Names:
    """What the rows of one export have in common."""

    run: str
    sae: str
    model: str
    source: str
    hook: str
    creator: str
    created: str
    """When the run was begun, ISO 8601 in UTC."""
    n_ctx: int

    @property
    def set(self) -> str:
        """The source set: the source without its layer."""
        return self.source.partition("-")[2]

    @property
    def salt(self) -> str:
        """What an id is made of beside what its row is about."""
        return f"{self.run}/{self.sae}/{self.model}/{self.source}"

    def of(self, first: int, end: int) -> dict[str, object]:
        """Values of `OF`."""
        return {"run": self.run, "sae": self.sae, "first": first, "end": end}


def read(con: duckdb.DuckDBPyConnection, sql: str, values: dict[str, object]) -> pl.DataFrame:
    """The rows of a statement."""
    return pl.DataFrame(con.sql(sql, params=values).to_arrow_table())


class Rows:
    """Reads rows through a cursor of its own, on which it keeps temporary tables."""

    def __init__(self, con: duckdb.DuckDBPyConnection, names: Names) -> None:
        self._con, self._names = con, names
        con.execute(_TWINS, {"run": names.run})
        ((self._n_tokens,),) = con.execute(_N_TOKENS, {"run": names.run}).fetchall()

    def neurons(self, first: int, end: int) -> pl.DataFrame:
        """A row for each feature."""
        names = self._names
        asked = {
            "model": names.model, "source": names.source, "set": names.set, "hook": names.hook,
            "creator": names.creator, "created": names.created, "n_correlated": N_CORRELATED,
        }  # fmt: skip
        return read(self._con, _NEURONS, names.of(first, end) | asked)

    def activations(self, first: int, end: int) -> Iterator[pl.DataFrame]:
        """A row for each context shown: of every feature the strongest first, then some of each
        interval of its activation, the strongest interval first. Of a feature no two have the same
        tokens, so that one in an interval is none of the strongest."""
        names = self._names
        of = names.of(first, end)
        self._con.execute(_OWN, of)
        asked = {
            "n_intervals": N_INTERVALS, "n_each": N_EACH, "n_tokens": self._n_tokens,
            "salt": names.salt, "n_ctx": names.n_ctx,
        }  # fmt: skip
        self._con.execute(_SHOWN, of | asked)
        shown = read(self._con, "FROM shown ORDER BY place", {})
        tokens = read(self._con, _TOKENS, {"run": names.run})
        codes = read(self._con, _CODES, {})
        size = max(1, _AT_ONCE // MOST_TOKENS)
        for part in shown.iter_slices(size):
            yield self._with_tokens(part, tokens, codes)

    def _with_tokens(
        self, shown: pl.DataFrame, tokens: pl.DataFrame, codes: pl.DataFrame
    ) -> pl.DataFrame:
        contexts, ids = tokens["context_id"].to_numpy(), shown["context_id"].to_numpy()
        begin = np.searchsorted(contexts, ids)
        length = np.searchsorted(contexts, ids, side="right") - begin
        n = np.minimum(length, MOST_TOKENS)
        first = (shown["at"].to_numpy() - MOST_TOKENS // 2).clip(0, length - n)
        ends = np.concatenate([[0], np.cumsum(n)])
        flat = np.arange(ends[-1]) + np.repeat(begin + first - ends[:-1], n)
        values = np.zeros(len(flat), dtype=np.float32)
        rows = shown.select(
            "feature_id", "context_id", first=pl.Series(first), n=pl.Series(n),
            to=pl.Series(ends[:-1] - first),
        )  # fmt: skip
        active = codes.join(rows, on=["feature_id", "context_id"]).filter(
            (pl.col("pos") >= pl.col("first")) & (pl.col("pos") < pl.col("first") + pl.col("n"))
        )
        values[(active["to"] + active["pos"]).to_numpy()] = active["activation"].to_numpy()
        return self._activations(
            shown.with_columns(
                _lists("tokens", tokens["token"].gather(flat), ends),
                _lists("values", pl.Series(values), ends),
                first=pl.Series(first),
            )
        )

    def _activations(self, rows: pl.DataFrame) -> pl.DataFrame:
        names = self._names
        nothing = pl.lit(None, pl.Float64)
        empty = pl.lit([], pl.List(pl.Float64))
        return rows.select(
            "id",
            "tokens",
            pl.col("context_id").cast(pl.String).alias("dataIndex"),
            pl.col("feature_id").cast(pl.String).alias("index"),
            pl.lit(names.source).alias("layer"),
            pl.lit(names.model).alias("modelId"),
            nothing.alias("dataSource"),
            pl.col("values").list.max().alias("maxValue"),
            pl.col("values").list.arg_max().alias("maxValueTokenIndex"),
            pl.col("values").list.min().alias("minValue"),
            "values",
            empty.alias("dfaValues"),
            nothing.alias("dfaTargetIndex"),
            nothing.alias("dfaMaxValue"),
            empty.alias("zQIndices"),
            empty.alias("zKIndices"),
            empty.alias("zValues"),
            pl.lit(names.creator).alias("creatorId"),
            pl.lit(names.created).alias("createdAt"),
            empty.alias("lossValues"),
            nothing.alias("logitContributions"),
            pl.col("bin_min").alias("binMin"),
            pl.col("bin_max").alias("binMax"),
            pl.col("bin_contains").alias("binContains"),
            (pl.col("at") - pl.col("first")).alias("qualifyingTokenIndex"),
        )


def _lists(name: str, flat: pl.Series, ends: np.ndarray) -> pl.Series:
    """A list for each row: where they end in what they hold together, from 0."""
    found = pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(ends), flat.to_arrow()))
    assert isinstance(found, pl.Series)
    return found.alias(name)
