"""Filters over frames in memory, in the same words as over tables of the store."""

import polars as pl

from energylens.db.store import Cursors
from energylens.queries.filters import parse_filter

_ROW = "row of the frame"


def filtered(
    reader: Cursors, rows: pl.DataFrame, text: str, titles: dict[str, str]
) -> pl.DataFrame:
    """The rows a filter leaves, in their order; `titles` are further names of columns.

    Raises:
        QueryError: the filter cannot be read.
    """
    condition = parse_filter(text, {n: _kind(t) for n, t in rows.schema.items()}, titles)
    con = reader.cursor()
    con.register("rows_to_filter", rows.with_row_index(_ROW).to_arrow())
    found = con.execute(
        f'SELECT "{_ROW}" FROM rows_to_filter WHERE {condition.sql} ORDER BY 1',  # noqa: S608
        condition.values,
    ).fetchall()
    return rows[[row for (row,) in found]]


def _kind(kind: pl.DataType) -> str:
    """The DuckDB type a filter has to tell apart."""
    if kind == pl.Boolean:
        return "BOOLEAN"
    return "DOUBLE" if kind.is_numeric() else "VARCHAR"
