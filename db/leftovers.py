"""The one that clears away what killed processes left unfinished.

Each thing is touched under the claim of who would have written it. What another process holds just
now, or holds on another machine whose locks are not seen here, is somebody's work and stays.
"""

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from energylens.db.claim import claim, holder_of, is_elsewhere
from energylens.db.graph_files import graphs_lock
from energylens.db.index_files import index_lock, measured_lock, put_back
from energylens.db.layout import RunLayout, StoreLayout, lock_of_plan
from energylens.db.shards import lock_of
from energylens.db.sums import NAME
from energylens.db.whole import discard
from energylens.errors import StoreError

_OF_SHARD = re.compile(r"\.(\d+)\.(?:partial|lock|merge-\d+)")
_OF_RUN = (
    ".run.lock",
    ".notes.lock",
    ".explanations.lock",
    ".run.json.partial",
    ".sums.json.partial",
    "run.partial",
    ".*.parquet.partial",
    "*.partial-*",
)
_OF_STORE = (
    ".store.lock",
    ".store.json.partial",
    ".sums.json.partial",
    "store.partial",
    ".catalog.duckdb.partial*",
    "catalog.partial*",
)


def clean_store(path: Path) -> None:
    """Put back what is whole, and remove what is unfinished and nobody's, in a store that is about
    to be written to. What cannot be removed stays, for the writer to speak of.
    """
    runs = path / "runs"
    for run in () if runs.is_symlink() else sorted(runs.glob("*")):
        if run.is_dir() and not run.is_symlink():
            clean_run(RunLayout(run))
    _clear(StoreLayout(path).lock, _found(path, _OF_STORE))
    layout = StoreLayout(path)
    if any(path.glob(".graphs.*")):
        _clear(graphs_lock(layout), (), lambda: put_back(layout.graphs))
    plans = layout.plans
    for unfinished in plans.glob(".*"):
        _clear(lock_of_plan(plans / unfinished.name.split(".")[1]), [unfinished])


def clean_run(run: RunLayout) -> None:
    """The same for one run; a directory in which no run has begun goes too."""
    shards: dict[int, list[Path]] = {}
    for path in run.shards.glob(".*"):
        if found := _OF_SHARD.fullmatch(path.name):
            shards.setdefault(int(found[1]), []).append(path)
    for number, paths in shards.items():
        _clear(lock_of(run, number), paths)
    for directory, lock in ((run.index, index_lock(run)), (run.measured, measured_lock(run))):
        if any(run.root.glob(f".{directory.name}.*")):
            _clear(lock, (), lambda directory=directory: put_back(directory))
    _clear(run.lock, _found(run.root, _OF_RUN))
    if not os.path.lexists(run.run_json):
        with suppress(OSError):  # not empty: more than a run that never began
            run.shards.rmdir()
        _clear(run.lock, (), lambda: _take_back(run))
        with suppress(OSError):
            run.root.rmdir()


def _take_back(run: RunLayout) -> None:
    """Remove the list of files of a run that has none, and never had a record."""
    if {path.name for path in run.root.iterdir()} <= {NAME, run.lock.name}:
        (run.root / NAME).unlink(missing_ok=True)


def _clear(lock: Path, paths: Iterable[Path], mend: Callable[[], None] | None = None) -> None:
    listed = [path for path in paths if path != lock]
    if is_elsewhere(holder_of(lock)) or not (listed or mend or lock.exists()):
        return
    with suppress(StoreError, OSError), claim(lock, "", ""):
        if mend is not None:
            mend()
        for path in listed:
            discard(path)


def _found(directory: Path, patterns: Iterable[str]) -> list[Path]:
    return [path for pattern in patterns for path in directory.glob(pattern)]
