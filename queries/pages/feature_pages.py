"""Pages of features: one as a file, or those of an SAE as a folder with a list."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path

from energylens.db.folders import new_folder
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.ratings import SCALES
from energylens.db.store import Reader
from energylens.errors import UsageError
from energylens.queries.features import Feature
from energylens.queries.pages.environment import environment
from energylens.queries.pages.feature_data import FeatureData, Row, feature_data
from energylens.queries.writing import whole_file

_AT_ONCE = 64
"""Features read together."""
_TEXTS = 300
"""Texts of a category that are drawn, the strongest ones."""


@dataclass(frozen=True)
class _Bar:
    percent: int
    said: str


@dataclass(frozen=True)
class _Texts:
    """Texts of one category in which a feature is active, the strongest first."""

    category: str
    rows: tuple[Row, ...]
    percents: tuple[int, ...]
    is_own: bool


@dataclass(frozen=True)
class _Links:
    """Numbers of the features before and after this one in a folder; None at its ends."""

    before: int | None
    after: int | None


@dataclass(frozen=True)
class _Line:
    """A feature in the list of a folder."""

    record: Feature
    label: str | None
    strongest: str | None
    """The token it is strongest on, where it has no label; None where it is silent too."""


def write_feature_page(reader: Reader, run: RunInfo, sae: SaeInfo, feature: int, to: Path) -> None:
    """Write the page of one feature, whole or not at all.

    Raises:
        QueryError: the run has no index of its SAEs.
        StoreError: the file cannot be written.
    """
    (data,) = feature_data(reader, run.run_id, sae.sae_id, [feature])
    with whole_file(to) as partial:
        partial.write_text(_page(run, data, None, frozenset()), encoding="utf-8")


def write_feature_folder(
    reader: Reader,
    run: RunInfo,
    sae: SaeInfo,
    features: Sequence[int],
    folder: Path,
    told: Callable[[int, int], None],
) -> None:
    """Write a page for each feature and `index.html`, which lists them in the order given; `told`
    hears how many of how many are done.

    Raises:
        QueryError: the run has no index of its SAEs.
        UsageError: the folder is there, or there is no feature to write.
        StoreError: the disk cannot be written; nothing is left of the folder.
    """
    if not features:
        raise UsageError(f"'{sae.sae_id}' has no feature that is active")
    with new_folder(folder) as tree:
        _write_tree(reader, run, sae, features, tree, told)


def _write_tree(
    reader: Reader,
    run: RunInfo,
    sae: SaeInfo,
    features: Sequence[int],
    tree: Path,
    told: Callable[[int, int], None],
) -> None:
    links, linked = _links(features), frozenset(features)
    lines: dict[int, _Line] = {}
    for data in _read(reader, run.run_id, sae.sae_id, features):
        number = data.record.feature_id
        page = _page(run, data, links[number], linked)
        (tree / f"{number}.html").write_text(page, encoding="utf-8")
        lines[number] = _line(data)
        told(len(lines), len(features))
    listed = environment().get_template("features.html")
    pages = [lines[number] for number in features]
    text = listed.render(info=run, sae_id=sae.sae_id, pages=pages)
    (tree / "index.html").write_text(text, encoding="utf-8")


def _line(data: FeatureData) -> _Line:
    if data.explanations:
        return _Line(data.record, data.explanations[0]["description"], None)
    pieces = data.top[0].pieces if data.top else ()
    strongest = max(pieces, key=lambda piece: piece.share, default=None)
    return _Line(data.record, None, strongest and strongest.text)


def _read(reader: Reader, run: str, sae: str, features: Sequence[int]) -> Iterator[FeatureData]:
    for first in range(0, len(features), _AT_ONCE):
        yield from feature_data(reader, run, sae, features[first : first + _AT_ONCE])


def _links(features: Sequence[int]) -> dict[int, _Links]:
    around = [None, *features, None]
    return {
        number: _Links(around[place], around[place + 2]) for place, number in enumerate(features)
    }


def _page(run: RunInfo, data: FeatureData, links: _Links | None, linked: frozenset[int]) -> str:
    up = [row for row in data.tokens if row["direction"] == "top"]
    down = [row for row in data.tokens if row["direction"] == "bottom"]
    return (
        environment()
        .get_template("feature.html")
        .render(
            info=run,
            data=data,
            bars=_activation_bars(data.record),
            logit_bars=_logit_bars(data.logits),
            tokens=list(zip_longest(up, down)),
            texts=_texts(data),
            links=links,
            linked=linked,
            scales=SCALES,
        )
    )


def _activation_bars(record: Feature) -> list[_Bar]:
    """The histogram of a feature's activation."""
    low, high = record.min_activation or 0.0, record.max_activation or 0.0
    return _bars(record.histogram or [], low, high)


def _logit_bars(logits: Sequence[Row]) -> list[_Bar]:
    """The histogram of what a feature adds to the logits of all tokens."""
    return [bar for row in logits for bar in _bars(row["histogram"], row["lowest"], row["highest"])]


def _bars(counts: Sequence[int], low: float, high: float) -> list[_Bar]:
    """Tokens in equal bins from `low` to `high`."""
    most, width = max(counts, default=0) or 1, (high - low) / max(1, len(counts))
    return [
        _Bar(
            round(100 * math.sqrt(n / most)),
            f"{low + place * width:.4g} to {low + (place + 1) * width:.4g}: {n:,} tokens",
        )
        for place, n in enumerate(counts)
    ]


def _texts(data: FeatureData) -> list[_Texts]:
    top = max((abs(row["mean_activation"]) for row in data.texts), default=0.0) or 1.0
    groups = []
    for category, rows in groupby(data.texts, lambda row: row["category"]):
        drawn = tuple(rows)[:_TEXTS]
        groups.append(
            _Texts(
                category="without a category" if category is None else category,
                rows=drawn,
                percents=tuple(round(100 * abs(row["mean_activation"]) / top) for row in drawn),
                is_own=category is not None and category == data.record.top_category,
            )
        )
    return sorted(groups, key=lambda group: not group.is_own)


def most_active(reader: Reader, run: str, sae: str, n: int | None) -> list[int]:
    """The `n` features with the highest density times mean activation, the highest first; all that
    are active where n is None."""
    con = reader.cursor()
    try:
        rows = con.execute(
            "SELECT feature_id FROM features WHERE run_id = $run AND sae_id = $sae "
            "AND n_active > 0 ORDER BY score DESC, feature_id LIMIT $n",
            {"run": run, "sae": sae, "n": n},
        )
        return [row[0] for row in rows.fetchall()]
    finally:
        with suppress(Exception):
            con.close()
