"""`energylens import`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from energylens.cli.arguments import JsonOption, StoreArgument
from energylens.cli.groups import Commands
from energylens.errors import UsageError

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


@app.command()
def graph(
    store: StoreArgument,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="JSON of circuit-tracer or Neuronpedia; folders."),
    ],
    run: Annotated[
        str | None,
        typer.Option(
            help="Join features to this run, or the one whose name begins so; left out, the newest "
            "whose dictionaries the files name."
        ),
    ] = None,
    sae: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LAYER=SAE",
            help="The run's SAE that a layer's features are of; may be repeated. Left out with "
            "--run: the only one of each layer.",
        ),
    ] = None,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="In place of other graphs of the same slugs, if any."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take in attribution graphs: what adds to what in a model, on the way from a prompt to its
    next token. A store is made where there is none; taken in again, a graph stays as it is."""
    from energylens.ingest.graphs import import_graphs
    from energylens.ingest.progress import Progress
    from energylens.queries.catalog import write_catalog
    from energylens.queries.display import visible

    progress = Progress(as_json)
    try:
        done = import_graphs(store, files, run, sae or [], replace, progress)
    finally:
        progress.close()
    write_catalog(store)
    for remark in (*done.remarks, *done.refused[1:]):
        typer.echo(visible(remark), err=True)
    typer.echo(json.dumps(asdict(done)) if as_json else done.said)
    if done.refused:
        raise UsageError(done.refused[0])
