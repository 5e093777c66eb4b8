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
    numbered = {name: f"column {place}" for place, name in enumerate(rows.columns)}
    kinds = {name: _kind(kind) for name, kind in rows.schema.items()}
    condition = parse_filter(text, kinds, titles, numbered)
    con = reader.cursor()  # to DuckDB names that differ in case are one, so it is given numbers
    con.register("rows_to_filter", rows.rename(numbered).with_row_index(_ROW).to_arrow())
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
