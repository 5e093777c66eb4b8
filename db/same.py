"""Whether two copies of a shard hold the same rows.

Other processors add the numbers of a sum in another order, so that the same shard made on two of
them has the same keys and values that agree to about seven digits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from energylens.db.manifest import Manifest, check_file, damaged, read_manifest
from energylens.db.schema import TABLES
from energylens.db.table import Table

NEAR = 1e-4
"""Values of two kinds of machine agree to this share of the larger one, measured 7e-6; numbers of
a vector to this share of the vector's length."""
_ROWS = 65_536
"""Compared at once."""


@dataclass(frozen=True)
class Difference:
    """The first row in which two shards differ."""

    table: str
    row: str
    """Its key, or its number where the keys differ."""
    column: str
    first: str
    """What the first shard has there."""
    second: str


def first_difference(first: Path, second: Path) -> Difference | None:
    """Compare two complete shards, table by table; None where they are the same shard. Made on
    machines that are known to be equal they must agree exactly.

    Raises:
        StoreDamagedError: a file of one of them is not what its manifest says.
    """
    one, two = read_manifest(first), read_manifest(second)
    if one.fingerprint == two.fingerprint:
        return None
    near = 0.0 if one.made_on is not None and one.made_on == two.made_on else NEAR
    ours, theirs = _files(one), _files(two)
    for name in dict.fromkeys([*ours, *theirs]):
        if name not in ours or name not in theirs:
            there, absent = f"{max(one.rows(name), two.rows(name)):,} rows", "no such table"
            sides = (there, absent) if name in ours else (absent, there)
            return Difference(name, "all", "rows", *sides)
        for shard, manifest in ((first, one), (second, two)):
            for entry in manifest.files:
                if entry.table == name:
                    check_file(shard, entry)
        paths = (first / ours[name], second / theirs[name])
        if found := _in_table(TABLES[name], paths, near):
            return found
    return None


def difference_in(table: Table, first: Path, second: Path) -> Difference | None:
    """The first row in which two files of a table differ by more than the rounding of two kinds of
    machine.

    Raises:
        StoreDamagedError: one of them cannot be read.
    """
    return _in_table(table, (first, second), NEAR)


def _files(manifest: Manifest) -> dict[str, str]:
    return {entry.table: entry.path for entry in manifest.files}


def _in_table(table: Table, paths: tuple[Path, Path], near: float) -> Difference | None:
    with _parquet(paths[0]) as one, _parquet(paths[1]) as two:
        names = one.schema_arrow.names, two.schema_arrow.names
        if names[0] != names[1] or not set(table.arrow.names) <= set(names[0]):
            return Difference(table.name, "all", "columns", *(", ".join(n) for n in names))
        done = 0
        for left, right in _aligned(one, two):
            if found := _in_rows(table, left, right, near, done):
                return found
            done += left.num_rows
        rows = one.metadata.num_rows, two.metadata.num_rows
    if rows[0] != rows[1]:
        return Difference(table.name, f"number {min(rows):,}", "rows", *(f"{n:,}" for n in rows))
    return None


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, str(error)) from error


def _aligned(
    one: pq.ParquetFile, two: pq.ParquetFile
) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
    """Both files in step, as far as the shorter one goes; their row groups need not be alike."""
    lefts, rights = one.iter_batches(_ROWS), two.iter_batches(_ROWS)
    left, right = next(lefts, None), next(rights, None)
    while left is not None and right is not None:
        n = min(left.num_rows, right.num_rows)
        yield left.slice(0, n), right.slice(0, n)
        left = left.slice(n) if n < left.num_rows else next(lefts, None)
        right = right.slice(n) if n < right.num_rows else next(rights, None)


def _in_rows(
    table: Table, left: pa.RecordBatch, right: pa.RecordBatch, near: float, done: int
) -> Difference | None:
    differs = {c.name: _differs(left[c.name], right[c.name], near) for c in table.columns}
    rows = {name: int(wrong.argmax()) for name, wrong in differs.items() if wrong.any()}
    if not rows:
        return None
    column = min(rows, key=lambda name: rows[name])  # of one row the keys come first
    row = rows[column]
    keys = [key for key in table.key if key != "run_id"]
    is_key = any(differs[key][row] for key in table.key)
    where = (
        f"number {done + row:,}"
        if is_key
        else ", ".join(f"{key} {_text(left[key][row])}" for key in keys)
    )
    return Difference(table.name, where, column, *_both(left[column][row], right[column][row]))


def _differs(left: pa.Array, right: pa.Array, near: float) -> np.ndarray:
    """[n]: whether two columns differ at each row; nulls and no-numbers are like each other."""
    one_null, two_null = (np.asarray(side.is_null()) for side in (left, right))
    if isinstance(left.type, pa.ListType):
        apart = _vectors_differ(left, right, near)
    elif pa.types.is_floating(left.type):
        one, two = (side.to_numpy(zero_copy_only=False) for side in (left, right))
        apart = _far(one, two, near * np.fmax(np.abs(one), np.abs(two)))
    else:
        apart = np.asarray(pc.fill_null(pc.call_function("not_equal", [left, right]), False))
    return (one_null != two_null) | (apart & ~one_null)


def _vectors_differ(left: pa.Array, right: pa.Array, near: float) -> np.ndarray:
    """A number of a vector is as exact as the vector is long: sums of large terms may be small."""
    lengths = [
        np.asarray(pc.fill_null(pc.call_function("list_value_length", [side]), 0))
        for side in (left, right)
    ]
    differs = lengths[0] != lengths[1]
    if differs.any():
        return differs
    row = np.repeat(np.arange(len(left)), lengths[0])
    one, two = (side.flatten().to_numpy(zero_copy_only=False) for side in (left, right))
    square = np.fmax(np.nan_to_num(one) ** 2, np.nan_to_num(two) ** 2)
    length = np.sqrt(np.bincount(row, square, minlength=len(left)))
    differs[row[_far(one, two, near * length[row])]] = True
    return differs


def _far(one: np.ndarray, two: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):  # infinities of one sign are equal
        is_near = (one == two) | (np.abs(one - two) <= allowed) & np.isfinite(allowed)
    return ~(is_near | (np.isnan(one) & np.isnan(two)))


def _both(one: pa.Scalar, two: pa.Scalar) -> tuple[str, str]:
    """Two values as text; of vectors the first number that is not the same."""
    first, second = one.as_py(), two.as_py()
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        for place, (x, y) in enumerate(zip(first, second, strict=True)):
            if x != y:
                return f"{x!r} at place {place}", f"{y!r} at place {place}"
    return _short(first), _short(second)


def _text(value: pa.Scalar) -> str:
    return _short(value.as_py())


def _short(value: Any) -> str:
    text = "NULL" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
