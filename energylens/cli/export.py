"""`energylens export`."""

from pathlib import Path
from typing import Annotated

import typer

from energylens.cli.arguments import StoreArgument
from energylens.cli.extras import need_models
from energylens.cli.names import RunArgument, chosen_run

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Write what other programs read."
)


@app.callback()
def _export() -> None:
    """Write what other programs read."""


@app.command()
def headvis(
    store: StoreArgument,
    run: RunArgument = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")] = Path("headvis"),
) -> None:
    """Write the attention heads of a run, once `energylens heads` has measured them, as the files
    that HeadVis shows and Neuronpedia loads."""
    need_models()
    from energylens.ingest.exchange.headvis import export_headvis
    from energylens.ingest.progress import Progress

    run = chosen_run(store, run)
    progress = Progress(False)
    try:
        n = export_headvis(store, run, out, progress)
    finally:
        progress.close()
    typer.echo(f"{n} heads of '{run}' are in '{out}'")
