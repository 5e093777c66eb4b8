"""Filters over frames in memory, in the same words as over tables of the store."""

from dataclasses import dataclass

import polars as pl

from energylens.db.store import Cursors
from energylens.queries.filters import parse_filter

_ROW = "row of the frame"


@dataclass(frozen=True)
class FeatureColumns:
    """Which columns of a frame hold features of a run."""

    run: str
    sae: str | None
    """Their SAE; None where the column `sae_id` tells."""
    columns: tuple[str, ...] = ("feature_id",)


@dataclass(frozen=True)
class Led:
    """What the words of a filter lead to, and the columns that may hold it."""

    found: pl.DataFrame
    """word, sae_id, number"""
    columns: tuple[str, ...]
    of_sae: bool = False
    """Whether the column `sae_id` has to agree."""


def filtered(
    reader: Cursors,
    rows: pl.DataFrame,
    text: str,
    titles: dict[str, str],
    led: Led | None = None,
) -> pl.DataFrame:
    """The rows a filter leaves, in their order; `titles` are further names of columns, `led` is
    what its words lead to.

    Raises:
        QueryError: the filter cannot be read.
    """
    numbered = {name: f"column {place}" for place, name in enumerate(rows.columns)}
    kinds = {name: _kind(kind) for name, kind in rows.schema.items()}
    meant = _meant(led, numbered) if led else ""
    condition = parse_filter(text, kinds, titles, numbered, meant)
    con = reader.cursor()  # to DuckDB names that differ in case are one, so it is given numbers
    if led:
        con.register("meant_by_words", led.found.to_arrow())
    con.register("rows_to_filter", rows.rename(numbered).with_row_index(_ROW).to_arrow())
    found = con.execute(
        f'SELECT "{_ROW}" FROM rows_to_filter WHERE {condition.sql} ORDER BY 1',  # noqa: S608
        condition.values,
    ).fetchall()
    return rows[[row for (row,) in found]]


def _meant(led: Led, numbered: dict[str, str]) -> str:
    """SQL that holds for rows that a word leads to."""
    own = f'm.sae_id = "{numbered["sae_id"]}" AND ' if led.of_sae else ""
    places = ", ".join(f'"{numbered[column]}"' for column in led.columns)
    return f"EXISTS (FROM meant_by_words AS m WHERE m.word = WORD AND {own}m.number IN ({places}))"


def _kind(kind: pl.DataType) -> str:
    """The DuckDB type a filter has to tell apart."""
    if kind == pl.Boolean:
        return "BOOLEAN"
    return "DOUBLE" if kind.is_numeric() else "VARCHAR"
