"""What the page of a feature shows, read for many features of an SAE at once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from energylens.db.store import Reader
from energylens.errors import QueryError
from energylens.queries.card import CardContext, card_pieces
from energylens.queries.features import Feature
from energylens.queries.shading import SNIPPET, ShadedToken

N_TOP = 8
"""Contexts shown of those in which a feature is strongest."""
N_INTERVALS, N_EACH = 5, 2
"""Intervals of the activation, and tokens shown of each."""
Row = Mapping[str, Any]
_OF = "x.run_id = $run AND x.sae_id = $sae AND x.feature_id IN (SELECT unnest($features))"


_SURE = "coalesce(x.q, 1) < 0.05 DESC"


def _listed(
    table: str, columns: str, order: str, condition: str = "true", qualified: str = ""
) -> str:
    return (
        f"SELECT x.feature_id, {columns} FROM {table} AS x "  # noqa: S608 - names of ours
        f"WHERE {_OF} AND {condition} {qualified} ORDER BY x.feature_id, {order}"
    )


_LISTS = {
    "explanations": _listed(
        "explanations",
        "x.description, x.method, x.model, x.score, x.score_type",
        "x.is_label DESC, x.score DESC NULLS LAST, x.description",
    ),
    "scores": _listed(
        "explanation_scores",
        "x.description, x.method, x.model, x.score_type, x.judge, x.score, x.score_low, "
        "x.score_high, x.n_active, x.n_silent, x.n_texts",
        "x.description, x.method, x.model, x.score_type, x.judge",
    ),
    "ratings": _listed(
        "ratings",
        "x.rater, x.confidence, x.consistency, x.completeness, x.specificity, "
        "x.confidence + x.consistency + x.completeness + x.specificity AS total",
        "x.rater",
    ),
    "tokens": _listed(
        "feature_logits", "x.direction, x.token, x.logit_weight", "x.direction DESC, x.rank"
    ),
    "logits": _listed(
        "logit_distributions",
        "x.n_vocab, x.lowest, x.highest, x.mean, x.std, x.skewness, x.kurtosis, x.histogram",
        "x.feature_id",
    ),
    "neighbours": _listed("feature_neighbours", "x.neighbour_id, x.cosine", "x.rank"),
    "partners": _listed(
        "coactivation",
        "x.partner_id, x.n_both, x.n_partner, x.phi, x.q, x.partner_is_dense",
        f"{_SURE}, x.rank",
        "x.unit = 'token'",
        f"QUALIFY row_number() OVER (PARTITION BY x.feature_id ORDER BY {_SURE}, x.rank) <= 12",
    ),
    "specialists": _listed(
        "specialists",
        "x.category, x.n_strong_in, x.n_in, x.n_strong_out, x.n_out, x.score, x.q",
        "x.score DESC, x.category",
    ),
    "efas": _listed(
        "efas",
        "x.variant, x.within, x.within_low, x.within_high, x.t, x.q, x.efas, x.attribution",
        "x.variant",
    ),
    "anchors": _listed(
        "routing_features",
        "x.layer, x.router, x.choice_id, x.n_both, x.phi, x.q",
        f"{_SURE}, x.phi DESC, x.layer, x.choice_id",
    ),
    "effects": _listed(
        "feature_effects",
        "x.energy, x.n_active, x.n_contexts, x.trapezoid, x.measured",
        "x.energy",
    ),
    "texts": """
        SELECT f.feature_id, t.category, t.text_id, f.mean_activation, f.n_active
        FROM feature_texts AS f
        JOIN texts AS t ON t.run_id = $run AND t.text_id = f.text_id
        WHERE f.run_id = $run AND f.sae_id = $sae
            AND f.feature_id IN (SELECT unnest($features))
        ORDER BY f.feature_id, t.category NULLS LAST, f.mean_activation DESC, t.text_id
    """,
}
"""Lists of a feature, each by a statement that gives them for all features asked for."""

_FEATURES = f"SELECT * FROM features AS x WHERE {_OF} ORDER BY x.feature_id"  # noqa: S608

_PEAKS = """
CREATE OR REPLACE TEMP TABLE peaks AS
WITH own AS (
    SELECT c.feature_id, c.token_index, c.activation, t.context_id,
        min(c.activation) OVER (PARTITION BY c.feature_id)::DOUBLE AS low,
        max(c.activation) OVER (PARTITION BY c.feature_id)::DOUBLE AS high
    FROM feature_codes AS c
    JOIN tokens AS t ON t.run_id = $run AND t.token_index = c.token_index
    WHERE c.run_id = $run AND c.sae_id = $sae AND NOT t.is_masked
        AND c.feature_id IN (SELECT unnest($features))
),
placed AS (
    SELECT o.*, (o.high - o.low) / $n_intervals AS width, CASE WHEN o.high > o.low
        THEN least(floor((o.activation - o.low) / (o.high - o.low) * $n_intervals),
            $n_intervals - 1)
        ELSE 0 END::BIGINT AS interval_id
    FROM own AS o
),
drawn AS (
    SELECT p.*, count(*) OVER same AS n_tokens, row_number() OVER (
        PARTITION BY p.feature_id, p.interval_id ORDER BY hash(p.token_index), p.token_index
    ) - 1 AS rank
    FROM placed AS p
    WINDOW same AS (PARTITION BY p.feature_id, p.interval_id)
)
SELECT row_number() OVER (ORDER BY feature_id, interval_id DESC NULLS FIRST, rank) AS peak_id, *
FROM (
    SELECT x.feature_id, x.context_id, x.token_index, x.activation, x.rank::BIGINT AS rank,
        NULL::BIGINT AS interval_id, NULL::BIGINT AS n_tokens,
        NULL::DOUBLE AS low, NULL::DOUBLE AS high
    FROM top_contexts AS x
    WHERE x.run_id = $run AND x.sae_id = $sae AND x.rank < $n_top
        AND x.feature_id IN (SELECT unnest($features))
    UNION ALL
    SELECT d.feature_id, d.context_id, d.token_index, d.activation, d.rank, d.interval_id,
        d.n_tokens, d.low + d.interval_id * d.width, d.low + (d.interval_id + 1) * d.width
    FROM drawn AS d
    WHERE d.rank < $n_each
)
"""
_AROUND = """
SELECT p.peak_id, p.feature_id, p.context_id, p.token_index AS at_token, p.activation AS peak,
    p.interval_id, p.n_tokens, p.low, p.high, k.text_id, k.n_tokens AS context_size, x.category,
    t.token_index, t.pos, t.token, t.token_bytes, t.is_special, t.energy, c.activation
FROM peaks AS p
JOIN contexts AS k ON k.run_id = $run AND k.context_id = p.context_id
LEFT JOIN texts AS x ON x.run_id = $run AND x.text_id = k.text_id
JOIN tokens AS t ON t.run_id = $run AND t.context_id = p.context_id
    AND t.token_index BETWEEN p.token_index - $snippet AND p.token_index + $snippet
LEFT JOIN feature_codes AS c ON c.run_id = $run AND c.sae_id = $sae
    AND c.feature_id = p.feature_id AND c.token_index = t.token_index
ORDER BY p.peak_id, t.token_index
"""


@dataclass(frozen=True)
class Interval:
    """Contexts of one interval of a feature's activation."""

    low: float
    high: float
    n_tokens: int
    """Tokens that are not masked whose activation lies in it."""
    contexts: tuple[CardContext, ...]


@dataclass(frozen=True)
class FeatureData:
    """All that the page of one feature shows; lists are empty where the store has none."""

    record: Feature
    explanations: tuple[Row, ...]
    scores: tuple[Row, ...]
    """Every score of its explanations."""
    ratings: tuple[Row, ...]
    """By people, one of each."""
    tokens: tuple[Row, ...]
    """The tokens its direction promotes ('top') and suppresses ('bottom')."""
    logits: tuple[Row, ...]
    """What it adds to the logits of all tokens, in one row."""
    neighbours: tuple[Row, ...]
    partners: tuple[Row, ...]
    specialists: tuple[Row, ...]
    efas: tuple[Row, ...]
    anchors: tuple[Row, ...]
    effects: tuple[Row, ...]
    texts: tuple[Row, ...]
    """Texts it is active in, by category, the strongest first."""
    top: tuple[CardContext, ...]
    intervals: tuple[Interval, ...]
    """The strongest first; intervals without a token are left out."""


def feature_data(reader: Reader, run: str, sae: str, features: Sequence[int]) -> list[FeatureData]:
    """What is known of each feature, in the order of their numbers.

    Raises:
        QueryError: the run has no index of its SAEs.
    """
    values = {"run": run, "sae": sae, "features": list(features)}
    con = reader.cursor()
    try:
        records = [_feature(row) for row in _rows(con, _FEATURES, values)]
        if len(records) < len(set(features)):
            raise QueryError(f"the run '{run}' has no index of its SAEs: energylens index")
        lists = {name: _grouped(_rows(con, sql, values)) for name, sql in _LISTS.items()}
        wanted = {"n_top": N_TOP, "n_intervals": N_INTERVALS, "n_each": N_EACH}
        con.execute(_PEAKS, {**values, **wanted})
        around = _rows(con, _AROUND, {"run": run, "sae": sae, "snippet": SNIPPET})
    finally:
        con.close()
    strongest = {record.feature_id: record.max_activation for record in records}
    contexts = _contexts(around, strongest)
    return [_put_together(record, lists, contexts[record.feature_id]) for record in records]


def _rows(con: Any, sql: str, values: Mapping[str, object]) -> list[dict[str, Any]]:
    done = con.execute(sql, values)
    names = [column[0] for column in done.description or []]
    return [dict(zip(names, row, strict=True)) for row in done.fetchall()]


def _grouped(rows: list[dict[str, Any]]) -> dict[int, tuple[Row, ...]]:
    found: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["feature_id"]].append(row)
    return {feature_id: tuple(own) for feature_id, own in found.items()}


def _feature(row: Row) -> Feature:
    return Feature(**{field.name: row[field.name] for field in fields(Feature)})


_Placed = tuple[Row, CardContext]


def _contexts(
    rows: list[dict[str, Any]], strongest: Mapping[int, float | None]
) -> defaultdict[int, list[_Placed]]:
    """The contexts of each feature, each with the first of the rows that it was made of."""
    by_peak: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_peak[row["peak_id"]].append(row)
    found: defaultdict[int, list[_Placed]] = defaultdict(list)
    for tokens in by_peak.values():
        first = tokens[0]
        found[first["feature_id"]].append((first, _context(tokens, strongest[first["feature_id"]])))
    return found


def _context(rows: list[dict[str, Any]], strongest: float | None) -> CardContext:
    first, last = rows[0], rows[-1]
    tokens = [
        ShadedToken(
            row["token_index"], row["pos"], row["token"], row["token_bytes"], row["is_special"],
            row["activation"], row["energy"],
        )
        for row in rows
    ]  # fmt: skip
    return CardContext(
        text_id=first["text_id"],
        category=first["category"],
        peak=first["peak"],
        pieces=card_pieces(tokens, strongest),
        is_cut_before=first["pos"] > 0,
        is_cut_after=last["pos"] + 1 < first["context_size"],
    )


def _put_together(
    record: Feature, lists: Mapping[str, Mapping[int, tuple[Row, ...]]], placed: list[_Placed]
) -> FeatureData:
    own = {name: found.get(record.feature_id, ()) for name, found in lists.items()}
    intervals: dict[int, list[_Placed]] = defaultdict(list)
    for row, context in placed:
        if row["interval_id"] is not None:
            intervals[row["interval_id"]].append((row, context))
    return FeatureData(
        record=record,
        top=tuple(context for row, context in placed if row["interval_id"] is None),
        intervals=tuple(
            Interval(
                low=own_[0][0]["low"],
                high=own_[0][0]["high"],
                n_tokens=own_[0][0]["n_tokens"],
                contexts=tuple(context for _, context in own_),
            )
            for _, own_ in sorted(intervals.items(), reverse=True)
        ),
        **own,
    )
