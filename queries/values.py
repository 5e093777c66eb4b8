"""What SQL gives as a Polars frame: every type of DuckDB, as text where Polars has none.

INTERVAL, MAP, UNION, BIT, TIMETZ, BIGNUM, VARIANT and their like have no counterpart in Polars or
lose something on the way. They come as the text DuckDB itself writes and reads back. Dates and
times come as such while all of a column lie in the years 1 to 9999; a column with one that does
not, or with an infinite one, comes as text. So do whole numbers of more than 38 digits.
"""

from dataclasses import dataclass

import duckdb
import polars as pl
import pyarrow as pa
from duckdb.sqltypes import DuckDBPyType

_PLAIN = {
    *("boolean", "tinyint", "smallint", "integer", "bigint"),
    *("utinyint", "usmallint", "uinteger", "ubigint", "float", "double", "decimal"),
}
_WIDE = {"hugeint", "uhugeint"}
_TIMES = {
    *("date", "time", "time_ns", "timestamp", "timestamp_s", "timestamp_ms", "timestamp_ns"),
    "timestamp with time zone",
}
_DAY = 86_400
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""Of the years 1 to 9999, as seconds since 1970."""


@dataclass(frozen=True)
class _Selected:
    """How a column is asked for."""

    sql: str
    """In Polars' terms as far as it has any."""
    text: str | None = None
    """The same as text, for a column whose values may be out of what Polars can show."""


def fetch(relation: duckdb.DuckDBPyRelation, limit: int | None) -> pl.DataFrame:
    """The rows of a relation, at most `limit`; names that come twice are numbered.

    Raises:
        duckdb.Error: the relation cannot be computed.
    """
    wanted = [_selected(n, kind) for n, kind in enumerate(relation.types, 1)]
    columns = [f"{one.sql} AS c{n}" for n, one in enumerate(wanted)]
    columns += [f"{one.text} AS t{n}" for n, one in enumerate(wanted) if one.text]
    picked = relation.project(", ".join(columns))
    rows = (picked if limit is None else picked.limit(limit)).to_arrow_table()
    series = [_series(rows, n) for n in range(len(wanted))]
    names = distinct(relation.columns)
    return pl.DataFrame([one.alias(name) for one, name in zip(series, names, strict=True)])


def _selected(number: int, kind: DuckDBPyType) -> _Selected:
    text = f"CAST(#{number} AS VARCHAR)"
    if kind.id in _TIMES:
        return _Selected(f"#{number}", text)
    if kind.id in _WIDE:
        return _Selected(f"TRY_CAST(#{number} AS DECIMAL(38, 0))", text)
    if kind.id == "blob" or kind.id in _PLAIN:
        return _Selected(f"#{number}")
    return _Selected(f"CAST(#{number} AS {_held(kind)})")


def _held(kind: DuckDBPyType) -> str:
    """The type a value takes: its own, with VARCHAR for every part that Polars cannot hold."""
    if kind.id in _PLAIN:
        return str(kind)
    if kind.id in ("list", "array"):
        return f"{_held(_parts(kind)[0][1])}[]"
    if kind.id == "struct" and kind.children:
        parts = (f"{_name(name)} {_held(child)}" for name, child in _parts(kind))
        return f"STRUCT({', '.join(parts)})"
    return "VARCHAR"


def _parts(kind: DuckDBPyType) -> list[tuple[str, DuckDBPyType]]:
    """What a nested type is made of; the size of an array is a part too, behind its own."""
    return [(name, part) for name, part in kind.children if isinstance(part, DuckDBPyType)]


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _series(rows: pa.Table, number: int) -> pl.Series:
    own = rows[f"c{number}"]
    if f"t{number}" not in rows.column_names:
        return pl.Series(own)
    text = rows[f"t{number}"]
    is_whole = own.null_count == text.null_count and _is_shown(own)
    return pl.Series(own if is_whole else text)


def _is_shown(column: pa.ChunkedArray) -> bool:
    """Whether Polars and Python can both write every value."""
    kind = column.type
    if pa.types.is_decimal(kind) or len(column) == column.null_count:
        return True
    numbers = pl.Series(column.cast(pa.int32() if pa.types.is_date32(kind) else pa.int64()))
    first, last = int(str(numbers.min())), int(str(numbers.max()))
    if pa.types.is_time(kind):
        return last < _DAY * _per_second(kind.unit)
    unit = 1 / _DAY if pa.types.is_date32(kind) else _per_second(kind.unit)
    return first >= _FIRST_SECOND * unit and last <= _LAST_SECOND * unit


def _per_second(unit: str) -> int:
    return {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]


def distinct(names: list[str]) -> list[str]:
    """Names of which none comes twice: a, a_1, a_2."""
    taken = set(names)
    seen: set[str] = set()
    found = []
    for name in names:
        own, number = name, 0
        while own in seen or (number and own in taken):
            number += 1
            own = f"{name}_{number}"
        seen.add(own)
        found.append(own)
    return found
