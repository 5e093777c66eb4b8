"""Rows of Neuronpedia's tables Explanation and ExplanationScore."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import duckdb
import polars as pl

from energylens.ingest.exchange.neuronpedia_rows import OF, Names, read

THEIR_TYPES = frozenset(
    (
        "eleuther_acts_top20", "np_acts-logits-general", "np_max-act", "np_max-act-logits",
        "oai_attention-head", "oai_token-act-pair",
    )
)  # fmt: skip
"""Methods that Neuronpedia has in a table of its own. Rows that named another there could not be
loaded; the notes of an explanation name its method and model whatever they are."""
_SAID = ("feature_id", "description", "method", "model")
"""What tells an explanation from others."""
_EXPLANATIONS = f"""
SELECT x.feature_id, x.description, x.method, x.model, x.score, x.score_type
FROM explanations AS x WHERE {OF}
ORDER BY x.feature_id, x.is_label DESC, x.score DESC NULLS LAST, x.description, x.method, x.model
"""  # noqa: S608 - names of ours
_SCORES = f"""
SELECT x.feature_id, x.description, x.method, x.model, x.score_type, x.judge, x.score,
    x.score_low, x.score_high, x.n_active, x.n_silent, x.n_texts, x.scored
FROM explanation_scores AS x WHERE {OF} AND isfinite(x.score)
ORDER BY x.feature_id, x.description, x.method, x.model, x.score_type, x.judge
"""  # noqa: S608


def utc_time(text: str) -> str:
    """A time as Neuronpedia's programs write it: in UTC, to the millisecond.

    Raises:
        ValueError: it is no time of ISO 8601.
    """
    time = datetime.fromisoformat(text)
    known = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    return known.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def explanations(
    con: duckdb.DuckDBPyConnection, names: Names, first: int, end: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A row for each explanation of some features, and one for each of their scores."""
    of = names.of(first, end)
    scores: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for score in _read(con, _SCORES, of):
        scores.setdefault(_identity(score), []).append(score)
    rows, score_rows = [], []
    for one in _read(con, _EXPLANATIONS, of):
        own = scores.get(_identity(one), [])
        row = _explanation(names, one, own)
        rows.append(row)
        score_rows += [_score(names, row["id"], score) for score in own]
    return (
        pl.DataFrame(rows, infer_schema_length=None),
        pl.DataFrame(score_rows, infer_schema_length=None),
    )


def _read(
    con: duckdb.DuckDBPyConnection, sql: str, values: dict[str, object]
) -> list[dict[str, Any]]:
    """Rows without NUL, which would lie escaped in the JSON of a column, where nobody looks."""
    found = read(con, sql, values)
    return found.with_columns(pl.col(pl.String).str.replace_all("\0", " ", literal=True)).to_dicts()


def _identity(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in _SAID)


def _id(*parts: object) -> str:
    return "c" + sha256(json.dumps(parts).encode()).hexdigest()[:24]


def _explanation(names: Names, one: dict[str, Any], scores: list[dict[str, Any]]) -> dict[str, Any]:
    is_theirs = one["method"] in THEIR_TYPES
    told = {name: one[name] for name in ("method", "model", "score", "score_type")}
    kept = ("score_type", "judge", "score", "score_low", "score_high")
    told["scores"] = [{name: score[name] for name in kept} for score in scores]
    return {
        "id": _id(names.salt, *_identity(one)),
        "modelId": names.model,
        "layer": names.source,
        "index": str(one["feature_id"]),
        "description": one["description"],
        "authorId": names.creator,
        "triggeredByUserId": None,
        "notes": _json(told),
        "scoreV2": one["score"],
        "umap_x": None,
        "umap_y": None,
        "umap_cluster": None,
        "umap_log_feature_sparsity": None,
        "typeName": one["method"] if is_theirs else None,
        "explanationModelName": one["model"] or None if is_theirs else None,
        "createdAt": names.created,
        "updatedAt": names.created,
    }


def _score(names: Names, explanation: str, score: dict[str, Any]) -> dict[str, Any]:
    details = ("score_low", "score_high", "n_active", "n_silent", "n_texts")
    try:
        created = utc_time(score["scored"])
    except ValueError:  # nobody said when
        created = names.created
    return {
        "id": _id(explanation, score["score_type"], score["judge"]),
        "initiatedByUserId": names.creator,
        "value": score["score"],
        "explanationId": explanation,
        "explanationScoreTypeName": score["score_type"],
        "explanationScoreModelName": score["judge"],
        "jsonDetails": _json({name: score[name] for name in details}),
        "createdAt": created,
    }


def _json(told: dict[str, Any]) -> str:
    return json.dumps(told, ensure_ascii=False)
