"""Print a table the way that was asked for; data goes to stdout."""

import enum
import sys

import polars as pl
import typer

from energylens.errors import UsageError
from queries.display import visible


class Format(enum.StrEnum):
    """How a table is printed."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"
    markdown = "markdown"


def print_frame(rows: pl.DataFrame, how: Format) -> None:
    """Write a table to stdout; `json` is one object a line.

    Raises:
        UsageError: Parquet would go to a terminal.
    """
    if how is Format.csv:
        sys.stdout.write(_flat(rows).write_csv())
    elif how is Format.json:
        sys.stdout.write(_text_for_bytes(rows).write_ndjson())
    elif how is Format.parquet:
        if sys.stdout.isatty():
            raise UsageError(
                "Parquet is no text; send it to a file: --format parquet > rows.parquet"
            )
        rows.write_parquet(sys.stdout.buffer)
    else:
        typer.echo(_drawn(rows, markdown=how is Format.markdown))


def _drawn(rows: pl.DataFrame, markdown: bool) -> str:
    shown = _text_for_bytes(rows).with_columns(
        pl.col(pl.String).map_elements(visible, return_dtype=pl.String)
    )
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=60_000,
        fmt_str_lengths=10_000 if markdown else 60,
        fmt_table_cell_list_len=-1 if markdown else 6,
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_formatting="ASCII_MARKDOWN" if markdown else "UTF8_FULL_CONDENSED",
        float_precision=None,
    ):
        return str(shown)


def _flat(rows: pl.DataFrame) -> pl.DataFrame:
    """Lists as JSON text, which CSV can hold."""
    lists = [name for name, kind in rows.schema.items() if isinstance(kind, pl.List)]
    joined = [
        pl.format("[{}]", pl.col(name).cast(pl.List(pl.String)).list.join(", ")).alias(name)
        for name in lists
    ]
    return _text_for_bytes(rows.with_columns(joined))


def _text_for_bytes(rows: pl.DataFrame) -> pl.DataFrame:
    binary = [name for name, kind in rows.schema.items() if kind == pl.Binary]
    return rows.with_columns(
        pl.col(name).map_elements(
            lambda data: data.decode("utf-8", "backslashreplace"), return_dtype=pl.String
        )
        for name in binary
    )
