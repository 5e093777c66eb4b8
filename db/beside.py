"""Files beside the shards of a run, written whole: what people know of it, never derived.

Who replaces one holds the run's claim (`claim_run`) and reads it inside.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from energylens.db.claim import claim_run
from energylens.db.layout import RunLayout
from energylens.db.parquet import TableWriter
from energylens.db.sums import check_listed, replace_listed
from energylens.db.table import Table
from energylens.db.version import raise_format
from energylens.db.whole import fresh_partial, open_plain, sync, writing
from energylens.errors import StoreDamagedError


def read_rows(path: Path, table: Table) -> list[dict[str, Any]]:
    """The rows of a file; none where there is no file.

    Raises:
        StoreDamagedError: the file is not what `replace_rows` wrote.
    """
    check_listed(path)
    if not os.path.lexists(path):
        return []
    try:
        with open_plain(path) as file:  # a path would give columns of the names of its folders
            return pq.read_table(file, schema=table.arrow).to_pylist()
    except (OSError, pa.ArrowException, TypeError) as error:
        raise StoreDamagedError(
            f"'{path}' does not hold {table.name} ({error}); restore it from a copy, or move it "
            "away"
        ) from error


def lacking(table: Table, path: Path) -> frozenset[str]:
    """The columns of a table that a file of an older version has not; none of a damaged file, which
    `verify` names."""
    try:
        return frozenset(table.arrow.names) - frozenset(pq.read_schema(path).names)
    except (OSError, pa.ArrowException):
        return frozenset()


def replace_rows(path: Path, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the file of a run, whole or not at all.

    Raises:
        StoreError: the disk cannot be written.
    """
    raise_format(path.parents[2])
    with writing(f"'{path}'"):
        partial = fresh_partial(path)
        try:
            with TableWriter(partial, table) as out:
                out.write(pa.Table.from_pylist(list(rows), schema=table.arrow))
            sync(partial)
            replace_listed(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def keep_rows(run: RunLayout, table: Table, new: Iterable[Mapping[str, Any]]) -> None:
    """Put rows into a run's file; one of a key that is there already takes its place.

    Raises:
        StoreBusyError: another process writes what is known of this run just now.
        StoreError: the disk cannot be written.
    """
    with claim_run(run):
        path = run.beside(table.name)
        replace_rows(path, table, _last(table, [*read_rows(path, table), *new]))


def merge_kept(source: RunLayout, target: RunLayout, table: Table, changed: str) -> None:
    """Take in the rows of another copy of a run; of two of one key the one that was `changed` later
    stays."""
    theirs = source.beside(table.name)
    if not theirs.exists():
        return
    with claim_run(target):
        path = target.beside(table.name)
        both = [*read_rows(theirs, table), *read_rows(path, table)]
        replace_rows(path, table, latest(table, both, itemgetter(changed)))


def latest(
    table: Table, rows: Iterable[Mapping[str, Any]], when: Callable[[Mapping[str, Any]], Any]
) -> list[Mapping[str, Any]]:
    """Of the rows of one key the one of the latest `when`; of two of the same, the same one in
    whichever order they come."""
    ordered = sorted(rows, key=lambda row: (when(row), json.dumps(dict(row), sort_keys=True)))
    return _last(table, ordered)


def _last(table: Table, rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The last row of each key, in order of the keys."""
    by_key = {tuple(row[name] for name in table.key): row for row in rows}
    return [by_key[key] for key in sorted(by_key)]
