"""Files beside the shards of a run, written whole: what people know of it, never derived."""

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from energylens.db.claim import claim
from energylens.db.layout import RunLayout
from energylens.db.parquet import TableWriter
from energylens.db.table import Table
from energylens.errors import StoreDamagedError, StoreError


def claimed(run: RunLayout, table: Table) -> AbstractContextManager[None]:
    """Keep others from replacing the file; who replaces it reads it inside."""
    lock = run.root / f".{table.name}.lock"
    return claim(lock, f"the file of {table.name} of '{run.root.name}'", "try again")


def read_rows(path: Path, table: Table) -> list[dict[str, Any]]:
    """The rows of a file; none where there is no file.

    Raises:
        StoreDamagedError: the file is not one that `replace_rows` writes.
    """
    if not path.exists():
        return []
    try:
        return pq.read_table(path, schema=table.arrow).to_pylist()
    except (OSError, pa.ArrowException, TypeError) as error:
        raise StoreDamagedError(
            f"'{path}' does not hold {table.name} ({error}); restore it from a copy, or move it "
            "away"
        ) from error


def replace_rows(path: Path, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the file, whole or not at all.

    Raises:
        StoreError: the disk cannot be written.
    """
    partial = path.with_suffix(f".partial-{os.getpid()}")
    try:
        with TableWriter(partial, table) as out:
            out.write(pa.Table.from_pylist(list(rows), schema=table.arrow))
        partial.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
