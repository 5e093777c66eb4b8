"""How it stands with a store, by what is read in a moment."""

import shlex
from collections.abc import Iterator
from pathlib import Path

from energylens.cli.doctor.finding import Finding, State
from energylens.db.layout import StoreLayout
from energylens.db.store import RunState, open_store
from energylens.db.version import check_format, read_format
from energylens.errors import EnergyLensError
from energylens.queries.display import counted

_PAGE = "docs/reliability.md"


def look_at_store(path: Path) -> Iterator[Finding]:
    """Format, runs, shards, index and catalogue of a store; no checksum is computed."""
    try:
        check_format(path)
        with open_store(path) as store:
            runs = store.runs
    except EnergyLensError as error:
        yield Finding("store", str(path), State.bad, str(error), _PAGE, _verify(path))
        return
    told = f"format {read_format(path)}, {counted(len(runs), 'run')}"
    yield Finding("store", str(path), State.ok, told, _PAGE, _verify(path))
    for run in runs:
        yield _look_at_run(path, run)
    if not StoreLayout(path).catalog.exists():
        yield Finding(
            "store",
            "catalog.duckdb",
            State.note,
            "not there; Energy-Lens needs none, the plain duckdb shell does",
            "docs/store.md",
            f"energylens index {shlex.quote(str(path))}",
        )


def _look_at_run(path: Path, run: RunState) -> Finding:
    shards = f"{run.n_complete} of {run.info.n_shards} shards"
    index = f"index {run.index}"
    advice = None
    if run.n_complete < run.info.n_shards:
        advice = "repeat the command that made it; it goes on where it stopped"
    elif run.index != "fresh":
        advice = f"energylens index {shlex.quote(str(path))}"
    state = State.ok if advice is None else State.note
    return Finding("store", run.info.run_id, state, f"{shards}, {index}", _PAGE, advice)


def _verify(path: Path) -> str:
    return f"energylens verify {shlex.quote(str(path))} reads every file"
