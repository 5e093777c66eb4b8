"""Print a table the way that was asked for; data goes to stdout."""

import io
import os
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import typer

from energylens.cli.fitting import fitted
from energylens.errors import UnknownNameError, UsageError
from energylens.queries.names import nearest
from energylens.queries.writing import Format, as_text


@dataclass(frozen=True)
class View:
    """How much of a table is shown."""

    columns: str | None = None
    """Names with commas; None shows all."""
    pager: bool = False
    """In a terminal, whole and in a program that scrolls."""

    def of(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The columns that were asked for, in their order.

        Raises:
            UnknownNameError: one is none of the table's; the message tells the nearest.
        """
        if self.columns is None:
            return rows
        chosen = list(dict.fromkeys(name.strip() for name in self.columns.split(",")))
        for name in chosen:
            if name not in rows.columns:
                near = ", ".join(nearest(name, rows.columns))
                raise UnknownNameError(f"there is no column '{name}'; nearest: {near}")
        return rows.select(chosen)


def print_frame(rows: pl.DataFrame, how: Format, view: View | None = None) -> None:
    """Write a table to stdout; `json` is one object a line. In a terminal a drawn table is fitted
    to its width, and stderr tells which columns had no room. `view` is None where a command has
    no options for it.

    Raises:
        UsageError: Parquet would go to a terminal, or there is no pager.
        UnknownNameError: a column is asked for that there is not.
    """
    rows = rows if view is None else view.of(rows)
    if how is Format.parquet:
        _print_parquet(rows)
    elif how is not Format.table or not sys.stdout.isatty():
        sys.stdout.write(as_text(rows, how))
    elif view is not None and view.pager:
        _page(as_text(rows, how))
    else:
        text, left_out = fitted(rows, shutil.get_terminal_size().columns)
        sys.stdout.write(text)
        if left_out:
            sys.stdout.flush()
            more = "a wider terminal" if view is None else "--columns A,B chooses, --pager"
            typer.echo(f"no room for {', '.join(left_out)}; {more} shows them", err=True)


def _print_parquet(rows: pl.DataFrame) -> None:
    if sys.stdout.isatty():
        raise UsageError("Parquet is no text; send it to a file: --format parquet > rows.parquet")
    whole = io.BytesIO()  # Polars tells of a full disk and a closed pipe as of bad data
    rows.write_parquet(whole)
    sys.stdout.buffer.write(whole.getbuffer())


def _page(text: str) -> None:
    """Show text in the user's pager, lines uncut; it scrolls sideways where the pager can."""
    command = shlex.split(os.environ.get("PAGER", "")) or ["less"]
    if Path(command[0]).name == "less":
        command.append("-S")
    sys.stdout.flush()
    try:
        pager = subprocess.Popen(command, stdin=subprocess.PIPE)
    except OSError as error:
        raise UsageError(
            f"there is no pager '{command[0]}' ({error.strerror}); set PAGER to one, or leave "
            "out --pager"
        ) from error
    with suppress(BrokenPipeError):  # it was left before the end
        pager.communicate(text.encode("utf-8", "backslashreplace"))
    pager.wait()
