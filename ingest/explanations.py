"""Read explanations of features from files: Neuronpedia's exports, or any table with an id and a
description."""

import json
import math
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from energylens.db.explanations import Explanation, write_explanations
from energylens.db.layout import RunLayout
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.scores import ExplanationScore, write_scores
from energylens.db.sources import pattern_of
from energylens.errors import UsageError
from energylens.queries.names import find_sae

_READERS = {
    ".jsonl": "read_json",
    ".json": "read_json",
    ".csv": "read_csv",
    ".parquet": "read_parquet",
}
_NAMES = {
    "feature_id": ("feature_id", "index", "feature", "feature_index", "feature_idx"),
    "description": ("description", "explanation", "label"),
    "method": ("method", "typename"),
    "model": ("model", "explanationmodelname", "model_name"),
    "score": ("score",),
    "score_type": ("score_type",),
    "scores": ("scores",),
    "of_model": ("modelid",),
    "of_layer": ("layer",),
}
"""Columns of an explanation by the names they go by in lower case: ours, Neuronpedia's, others'."""


@dataclass(frozen=True)
class TakenIn:
    """What became of a file's explanations."""

    sae_id: str
    n_explanations: int
    n_features: int
    n_elsewhere: int
    """Rows about another SAE of Neuronpedia than this one; they were left out."""


def explain(
    run: RunLayout, info: RunInfo, files: list[Path], sae_id: str | None, is_replacing: bool
) -> TakenIn:
    """Take the explanations of files into a run; nothing is written unless all can be read.

    sae_id None is the only SAE of the run, or the one whose neuronpedia_id the files name.

    Raises:
        UsageError: a file or a row of it cannot be read, or fits no SAE of the run.
        StoreError: the store cannot be written.
    """
    rows = [(file, number, row) for file in files for number, row in enumerate(_rows(file), 1)]
    sae = _sae(info, sae_id, {_source(row) for _, _, row in rows} - {None})
    own = [(f, n, row) for f, n, row in rows if _is_of(row, sae)]
    if not own:
        raise UsageError(
            f"no row of {', '.join(str(file) for file in files)} is about '{sae.sae_id}'"
            + (f" ({sae.neuronpedia_id} in Neuronpedia)" if sae.neuronpedia_id else "")
        )
    found = [
        _explanation(row, info.run_id, sae, f"{file}, row {number},") for file, number, row in own
    ]
    write_explanations(run, sae.sae_id, [one.explanation for one in found], is_replacing)
    write_scores(run, [score for one in found for score in one.kept_scores()])
    n_features = len({one.explanation.feature_id for one in found})
    return TakenIn(sae.sae_id, len(found), n_features, len(rows) - len(own))


def _rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a file with the columns that are known, by our names."""
    kind = Path(file.name.removesuffix(".gz")).suffix
    if kind not in _READERS:
        raise UsageError(f"'{file}' is none of {', '.join(_READERS)}, plain or with .gz")
    if not file.is_file():
        raise UsageError(f"there is no file '{file}'")
    with duckdb.connect() as con:
        try:
            table = con.sql(
                f"FROM {_READERS[kind]}($path, hive_partitioning = false)",
                params={"path": pattern_of(file)},
            )
            named = _known(table.columns)
            picked = ", ".join(
                f'"{there}" AS {ours}' if ours == "scores" else f'"{there}"::VARCHAR AS {ours}'
                for ours, there in named.items()
            )
            missing = {"feature_id", "description"} - named.keys()
            if missing:
                raise UsageError(
                    f"'{file}' has no column for {' and '.join(sorted(missing))} "
                    f"(its columns: {', '.join(table.columns)}); name them so"
                )
            return table.project(picked).to_arrow_table().to_pylist()
        except (duckdb.Error, ValueError, OverflowError) as error:  # dates that Python has not
            raise UsageError(f"cannot read '{file}': {error}") from error
        except RuntimeError as error:  # from DuckDB's binding
            raise UsageError(
                f"cannot read '{file}': a column's name is no UTF-8 ({error}); write it anew"
            ) from error


def _known(columns: list[str]) -> dict[str, str]:
    """The file's column for each of ours it has."""
    lower = {column.lower(): column for column in reversed(columns) if '"' not in column}
    found = {
        ours: next((lower[name] for name in names if name in lower), None)
        for ours, names in _NAMES.items()
    }
    return {ours: there for ours, there in found.items() if there is not None}


def _source(row: dict[str, Any]) -> str | None:
    """The SAE a row of Neuronpedia is about, as `model/source`."""
    model, layer = row.get("of_model"), row.get("of_layer")
    return f"{model}/{layer}" if model is not None and layer is not None else None


def _is_of(row: dict[str, Any], sae: SaeInfo) -> bool:
    return sae.neuronpedia_id is None or _source(row) in (None, sae.neuronpedia_id)


def _sae(info: RunInfo, sae_id: str | None, sources: set[str | None]) -> SaeInfo:
    if sae_id is not None:
        return find_sae(info, sae_id)
    fitting = [sae for sae in info.saes if sae.neuronpedia_id in sources]
    if not fitting and len(info.saes) == 1:
        fitting = list(info.saes)
    if len(fitting) != 1:
        known = ", ".join(sae.sae_id for sae in info.saes)
        raise UsageError(f"say with --sae which SAE is explained: {known}")
    return fitting[0]


@dataclass(frozen=True)
class _Read:
    """A row of a file."""

    explanation: Explanation
    scores: tuple["_Score", ...]

    def kept_scores(self) -> list[ExplanationScore]:
        """Its scores as they are kept; one without a value or a name tells nothing."""
        one = self.explanation
        return [
            ExplanationScore(
                one.run_id, one.sae_id, one.feature_id, one.description, one.method, one.model,
                score_type=score.kind or "", score=score.value,
            )
            for score in self.scores
            if score.value is not None
        ]  # fmt: skip


def _explanation(row: dict[str, Any], run_id: str, sae: SaeInfo, where: str) -> _Read:
    description = (row["description"] or "").strip()
    if not description:
        raise UsageError(f"{where} has no description")
    feature_id = _feature_id(row["feature_id"], where)
    if not 0 <= feature_id < sae.d_sae:
        raise UsageError(
            f"{where} is about feature {feature_id!s:.80}, but '{sae.sae_id}' has {sae.d_sae} "
            "features: these explanations are of another SAE"
        )
    scores = _scores(row, where)
    first = scores[0] if scores else _Score(None, None)
    read = Explanation(
        run_id,
        sae.sae_id,
        feature_id,
        description,
        row.get("method") or "",
        row.get("model") or "",
        first.value,
        first.kind,
    )
    return _Read(read, tuple(scores))


def _feature_id(text: str | None, where: str) -> int:
    """The number that a text stands for; where some are missing, tables write 1 as 1.0."""
    with suppress(ValueError):
        return int(text or "")
    with suppress(ValueError):
        number = float(text or "")
        if number.is_integer():
            return int(number)
    raise UsageError(f"{where} has no feature's number: {text!r:.80}")


@dataclass(frozen=True)
class _Score:
    """A score as a file tells it."""

    value: float | None
    kind: str | None


def _scores(row: dict[str, Any], where: str) -> list[_Score]:
    """Every score of a row, the one of the row itself before those of Neuronpedia's list."""
    own = _number(row.get("score"), where)
    found = [] if own is None else [_Score(own, _kind(row.get("score_type")))]
    scores = row.get("scores")
    if isinstance(scores, str):  # CSV and Parquet may hold the list as JSON
        scores = _listed(scores, where)
    for one in scores if isinstance(scores, list) else []:
        if isinstance(one, dict):
            value = _number(one.get("value"), where)
            found.append(_Score(value, _kind(one.get("explanationScoreTypeName"))))
    return found


def _kind(said: object) -> str | None:
    return str(said) if said else None


def _number(value: object, where: str) -> float | None:
    """A score; None where there is none, which tables write as nothing or NaN."""
    if value in (None, ""):
        return None
    try:
        number = float(str(value).strip('"'))  # a column of several types comes as JSON
    except (ValueError, OverflowError):
        raise UsageError(f"{where} has a score that is no number: {value!r:.80}") from None
    return None if math.isnan(number) else number


def _listed(scores: str, where: str) -> Any:
    """A list of scores as JSON; None where the text is none."""
    if not scores.strip().startswith("["):
        return None
    try:
        return json.loads(scores)
    except (ValueError, RecursionError):
        raise UsageError(f"{where} has scores that are no JSON: {scores!r:.80}") from None
