"""`energylens export`."""

from pathlib import Path
from typing import Annotated

import typer

from energylens.cli.arguments import StoreArgument
from energylens.cli.extras import need_models
from energylens.cli.groups import Commands
from energylens.cli.names import RunArgument, chosen_run

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Write what other programs read.",
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


@app.command(name="list")
def feature_list(
    store: StoreArgument,
    run: RunArgument = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path(
        "list.json"
    ),
) -> None:
    """Write the stars, notes, explanations and ratings of a run's features as JSON, which
    `energylens import list` takes into another copy of the run."""
    from energylens.queries.catalog import open_catalog
    from energylens.queries.lists import export_list

    run = chosen_run(store, run)
    with open_catalog(store) as opened:
        n = export_list(opened, run, out)
    typer.echo(f"{n:,} rows about features of '{run}' are in '{out}'")


@app.command(name="duckdb")
def duckdb_file(
    store: StoreArgument,
    run: RunArgument = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path(
        "run.duckdb"
    ),
    with_codes: Annotated[
        bool, typer.Option("--codes/--no-codes", help="Every activation of every feature too.")
    ] = True,
) -> None:
    """Write a run as one DuckDB file with tables, comments and the text of the named queries, which
    any DuckDB from 1.4 opens without this program."""
    from energylens.ingest.exchange.duckdb_file import export_duckdb
    from energylens.queries.catalog import open_catalog

    run = chosen_run(store, run)
    with open_catalog(store) as opened:
        written = export_duckdb(opened, run, out, with_codes)
    typer.echo(f"{written.n_rows:,} rows in {written.n_tables} tables of '{run}' are in '{out}'")


@app.command()
def delphi(
    store: StoreArgument,
    run: RunArgument = None,
    sae: Annotated[str | None, typer.Option(help="The SAE, or the beginning of its name.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")] = Path("latents"),
    splits: Annotated[int, typer.Option(min=1, help="Files the features are shared among.")] = 5,
) -> None:
    """Write the codes of an SAE as delphi's latent cache, which its explainers and scorers read."""
    need_models()
    from energylens.ingest.exchange.delphi import export_delphi
    from energylens.ingest.progress import Progress
    from energylens.queries.catalog import open_catalog

    run = chosen_run(store, run)
    progress = Progress(False)
    try:
        with open_catalog(store) as opened:
            written = export_delphi(opened, run, sae, out, splits, progress)
    finally:
        progress.close()
    typer.echo(f"{written.n_activations:,} activations in {written.n_files} files are in '{out}'")
    typer.echo(written.lost)


@app.command()
def graph(
    store: StoreArgument,
    graph_id: Annotated[
        str, typer.Argument(metavar="GRAPH", help="An attribution graph, or its beginning.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")] = Path(
        "graph.json"
    ),
) -> None:
    """Write an attribution graph of the store as the JSON that it came as, which circuit-tracer's
    and Neuronpedia's pages open."""
    from energylens.ingest.graphs import export_graph
    from energylens.queries.display import visible

    found = export_graph(store, graph_id, out)
    typer.echo(f"the graph '{visible(found)}' is in '{out}'")


@app.command()
def neuronpedia(
    store: StoreArgument,
    run: RunArgument = None,
    sae: Annotated[str | None, typer.Option(help="The SAE, or the beginning of its name.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")] = Path(
        "neuronpedia"
    ),
    name: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL/LAYER-SET",
            help="What it is called there; its own name there where it has one, else one is made.",
        ),
    ] = None,
) -> None:
    """Write the features of an SAE as the files that Neuronpedia imports: statistics, histograms,
    tokens, neighbours, contexts, explanations and their scores."""
    from energylens.ingest.exchange.neuronpedia import NOT_KNOWN, export_neuronpedia
    from energylens.ingest.progress import Progress
    from energylens.queries.catalog import open_catalog

    run = chosen_run(store, run)
    progress = Progress(False)
    try:
        with open_catalog(store) as opened:
            written = export_neuronpedia(opened, run, sae, out, name, progress)
    finally:
        progress.close()
    typer.echo(
        f"{written.n_features:,} features, {written.n_contexts:,} contexts, "
        f"{written.n_explanations:,} explanations and {written.n_scores:,} scores are in "
        f"'{out / written.name}'"
    )
    typer.echo(NOT_KNOWN)
