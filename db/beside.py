"""Files beside the shards of a run, written whole: what people know of it, never derived.

Who replaces one holds the run's claim (`claim_run`) and reads it inside.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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
