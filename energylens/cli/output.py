"""Print a table the way that was asked for; data goes to stdout."""

import io
import sys

import polars as pl

from energylens.errors import UsageError
from energylens.queries.writing import Format, as_text


def print_frame(rows: pl.DataFrame, how: Format) -> None:
    """Write a table to stdout; `json` is one object a line.

    Raises:
        UsageError: Parquet would go to a terminal.
    """
    if how is Format.parquet:
        if sys.stdout.isatty():
            raise UsageError(
                "Parquet is no text; send it to a file: --format parquet > rows.parquet"
            )
        whole = io.BytesIO()  # Polars tells of a full disk and a closed pipe as of bad data
        rows.write_parquet(whole)
        sys.stdout.buffer.write(whole.getbuffer())
    else:
        sys.stdout.write(as_text(rows, how))
