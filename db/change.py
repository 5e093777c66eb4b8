"""Every change of a run's record goes through its claim: read, changed and written inside."""

from collections.abc import Callable

from energylens.db.claim import claim_run
from energylens.db.layout import RunLayout
from energylens.db.provenance import RunInfo, read_run, write_run
from energylens.db.version import raise_format
from energylens.db.whole import writing


def create_run(run: RunLayout, info: RunInfo) -> RunInfo:
    """Write the record of a new run; what stands there where another process was first.

    Raises:
        StoreError: the store cannot be written.
    """
    with claim_run(run):
        if run.run_json.exists():
            return read_run(run.run_json)
        return _write(run, info)


def change_run(run: RunLayout, change: Callable[[RunInfo], RunInfo]) -> RunInfo:
    """Change the record as it stands now, which may be more than the caller has read.

    Raises:
        StoreError: the store cannot be written.
    """
    with claim_run(run):
        old = read_run(run.run_json)
        new = change(old)
        return old if new == old else _write(run, new)


def _write(run: RunLayout, info: RunInfo) -> RunInfo:
    raise_format(run.root.parents[1])
    with writing(f"'{run.run_json}'"):
        write_run(run.run_json, info)
    return info
