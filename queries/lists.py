"""What is known of a run's features to a file of JSON and back: stars, notes, explanations with
their scores, ratings."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from energylens.db.lists import (
    VERSION,
    WHAT,
    Known,
    ListedRun,
    SharedList,
    Taken,
    listed_run,
    read_known,
    take_in,
)
from energylens.db.provenance import RunInfo
from energylens.db.ratings import check_rating
from energylens.db.records import RecordError, read_record
from energylens.db.store import Store
from energylens.errors import UsageError
from energylens.queries.catalog import write_catalog
from energylens.queries.display import counted
from energylens.queries.writing import whole_file

_AHEAD = timedelta(days=1)
"""How far another machine's clock may be before ours."""
_MOST = 1 << 31
"""What a count of contexts is below."""


@dataclass(frozen=True)
class Imported:
    """What became of a list."""

    run: str
    taken: Taken
    left_out: dict[str, int]
    """Rows about SAEs that the run has not here, by SAE."""

    @property
    def said(self) -> str:
        """It in words."""
        told = ", ".join(
            f"{n:,} {name.replace('_', ' ')}" for name, n in asdict(self.taken).items() if n
        )
        text = f"{told or 'nothing'} new or changed in '{self.run}'"
        for sae, n in self.left_out.items():
            rows = counted(n, "row")
            text += f"; {rows} about '{sae}' left out: the run has no such SAE here"
        return text


def export_list(store: Store, run: str, path: Path) -> int:
    """Write what is known of a run's features to a file; how many rows that are.

    Raises:
        StoreError: the file cannot be written.
    """
    known = read_known(store.layout.run(run))
    listed = SharedList(WHAT, VERSION, listed_run(store.run(run).info), known)
    raw = asdict(listed)
    for one in raw["known"]["explanations"]:
        del one["is_label"]  # follows from the others
    text = json.dumps(raw, indent=1, ensure_ascii=False)
    with whole_file(path) as partial:
        partial.write_text(f"{text}\n", encoding="utf-8")
    return sum(map(len, vars(known).values()))


def import_list(store: Store, path: Path) -> Imported:
    """Take in what another copy of a run knows; nothing is written unless all can be read.

    Raises:
        UsageError: the file is no list, or one of another run.
        StoreError: the store cannot be written.
    """
    try:
        listed = read_record(path, SharedList)
    except RecordError as error:
        raise UsageError(
            f"'{path}' is no list that `energylens export list` wrote ({error}); export it again"
        ) from error
    info = _own_run(store, path, listed.run)
    _check_saes(path, listed.run, info)
    known, left_out = _checked(path, listed, info)
    layout = store.layout.run(info.run_id)
    taken = take_in(layout, known)
    # a view may have had no file to read until now, also where an import was stopped behind it
    store.refresh()
    write_catalog(store.path)
    return Imported(info.run_id, taken, left_out)


def _own_run(store: Store, path: Path, listed: ListedRun) -> RunInfo:
    """The run that a list is of."""
    own = next((info for info in store.infos if info.run_id == listed.run_id), None)
    if own is None:
        there = ", ".join(f"'{info.run_id}'" for info in store.infos) or "none"
        raise UsageError(
            f"'{path}' is of the run '{listed.run_id}', which is not in '{store.path}'; its runs "
            f"are: {there}"
        )
    if replace(listed_run(own), saes=[]) != replace(listed, saes=[]):
        raise UsageError(
            f"'{path}' is of another run that is called '{listed.run_id}' too: it was made from "
            "other models, texts or settings; a list goes with copies of one run"
        )
    return own


def _check_saes(path: Path, listed: ListedRun, own: RunInfo) -> None:
    known = {sae.sae_id: sae for sae in listed_run(own).saes}
    for sae in listed.saes:
        if known.get(sae.sae_id, sae) != sae:
            raise UsageError(
                f"'{path}' is of another SAE that is called '{sae.sae_id}' too: its weights differ"
            )


def _checked(path: Path, listed: SharedList, own: RunInfo) -> tuple[Known, dict[str, int]]:
    """The rows about SAEs that there are, with times as we write them; and how many are about
    others."""
    sizes = {sae.sae_id: sae.d_sae for sae in own.saes}
    left_out: Counter[str] = Counter()

    def kept(name: str, rows: Sequence[Any]) -> Iterator[Any]:
        for number, row in enumerate(rows, 1):
            try:
                row = _row(row, own.run_id, sizes)
            except UsageError as error:
                raise UsageError(f"'{path}', row {number} of {name}: {error}") from None
            if row is None:
                left_out[rows[number - 1].sae_id] += 1
            else:
                yield row

    known = Known(**{name: list(kept(name, rows)) for name, rows in vars(listed.known).items()})
    return known, dict(left_out)


def _row(row: Any, run: str, sizes: dict[str, int]) -> Any:
    """A row that may stand in a table; None where it is about an SAE that there is not.

    Raises:
        UsageError: it cannot be one.
    """
    if row.run_id != run:
        raise UsageError(f"it is about the run '{row.run_id}'")
    if row.sae_id not in sizes:
        return None
    if not 0 <= row.feature_id < sizes[row.sae_id]:
        top = sizes[row.sae_id] - 1
        raise UsageError(f"'{row.sae_id}' has the features 0 to {top}, no {row.feature_id}")
    for name, value in vars(row).items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"{name} is no number")
        if isinstance(value, int) and not 0 <= value < _MOST:
            raise UsageError(f"{name} cannot be {value}")
    if hasattr(row, "rater"):
        check_rating(row)
    if hasattr(row, "is_label"):
        return replace(row, is_label=False)
    name = "scored" if hasattr(row, "scored") else "changed"
    return replace(row, **{name: _time(name, getattr(row, name))})


def _time(name: str, text: str) -> str:
    """A time as stores hold it, so that times compare as texts do; '' is before all."""
    if not text:
        return ""
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError("it names no zone")
        told = time.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(
            f"{name} is no time with a zone, such as 2026-11-27T09:00Z: {error}"
        ) from None
    if told > datetime.now(UTC) + _AHEAD:
        raise UsageError(f"{name} is {text}, which is yet to come; a clock is wrong")
    return told.isoformat(timespec="microseconds")
