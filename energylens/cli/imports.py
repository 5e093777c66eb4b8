"""`energylens import`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from energylens.cli.arguments import JsonOption, StoreArgument
from energylens.cli.groups import Commands

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Take in what others have written.",
)


@app.callback()
def _import() -> None:
    """Take in what others have written."""


@app.command(name="list")
def feature_list(
    store: StoreArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `energylens export list` wrote.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Take in the stars, notes, explanations and ratings of another copy of a run: of two about one
    thing the later stays, with its author."""
    from energylens.queries.catalog import open_catalog
    from energylens.queries.lists import import_list

    with open_catalog(store) as opened:
        done = import_list(opened, file)
    typer.echo(json.dumps(asdict(done)) if as_json else done.said)
