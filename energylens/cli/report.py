"""`energylens report`."""

from pathlib import Path
from typing import Annotated

import typer

from energylens.cli.arguments import StoreArgument
from energylens.cli.extras import need_report
from energylens.cli.names import RunArgument, chosen_run


def report(
    store: StoreArgument,
    run: RunArgument = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")] = Path("report"),
) -> None:
    """Write a run as a report: figures with the queries that made them, tables, specialists with
    their contexts, as one page of HTML, as Markdown, and as data."""
    need_report()
    from energylens.queries.catalog import open_catalog
    from energylens.queries.overview import run_summaries
    from energylens.report.build import write_report

    run_id = chosen_run(store, run)
    with open_catalog(store) as opened:
        summary = next(s for s in run_summaries(opened) if s.info.run_id == run_id)
        made = write_report(
            opened, summary.info, summary.n_texts, out, lambda said: typer.echo(said, err=True)
        )
    typer.echo(f"{len(made.figures)} figures of '{run_id}' are in '{out}'; open report.html")
    for one in made.missing:
        typer.echo(f"left out: {one.title}: {one.reason}", err=True)
