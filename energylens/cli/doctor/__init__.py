"""`energylens doctor`: what is installed here, what this machine has, and how a store is."""

import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from energylens.cli.doctor.finding import Finding, State
from energylens.cli.sql import FormatOption, checked_format

if TYPE_CHECKING:
    from energylens.queries.writing import Format


def doctor(
    store: Annotated[
        Path | None, typer.Argument(metavar="[STORE]", help="A store to look at too.")
    ] = None,
    how: FormatOption = "table",
) -> None:
    """Check what is installed, the machine, the hub, the terminal and a store; exit 1 where
    something that should work does not."""
    from energylens.queries.writing import Format

    form = checked_format(how)
    found = []
    for finding in _examine(store):
        if form is Format.table:
            _tell(finding, is_first=not found or found[-1].part != finding.part)
        found.append(finding)
    if form is not Format.table:
        _print_rows(found, form)
    if any(finding.state is State.bad for finding in found):
        raise typer.Exit(1)


def _examine(store: Path | None) -> Iterator[Finding]:
    """Everything that is looked at, each as soon as it is known."""
    from energylens.cli.doctor.installed import look_at_installation
    from energylens.cli.doctor.machine import look_at_machine
    from energylens.cli.doctor.surroundings import look_at_hub, look_at_terminal

    yield from look_at_machine()
    yield from look_at_terminal()
    yield from look_at_hub()
    if store is not None:
        from energylens.cli.doctor.stores import look_at_store

        yield from look_at_store(store)
    yield from look_at_installation()


def _tell(finding: Finding, is_first: bool) -> None:
    if is_first:
        typer.echo(finding.part)
    typer.echo(_fitted(f"  {finding.state:<4}  {finding.name}: {finding.found}"))
    if finding.advice is not None:
        typer.echo(f"        {finding.advice}")
    if finding.state is not State.ok:
        typer.echo(f"        more: {finding.page}")


def _fitted(line: str) -> str:
    """A line over as many as a terminal needs for it; whole where it goes elsewhere."""
    if not sys.stdout.isatty():
        return line
    width = shutil.get_terminal_size().columns
    return textwrap.fill(
        line, width, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False
    )


def _print_rows(found: Iterable[Finding], form: "Format") -> None:
    import polars as pl

    from energylens.cli.output import print_frame

    rows = [asdict(finding) | {"state": str(finding.state)} for finding in found]
    columns = ["part", "name", "state", "found", "advice", "page"]
    print_frame(pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String)), form)
