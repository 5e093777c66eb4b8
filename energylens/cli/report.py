"""`energylens report`."""

from pathlib import Path
from typing import Annotated

import typer

from energylens.cli.arguments import StoreArgument
from energylens.cli.names import RunArgument, chosen_run
from energylens.errors import CheckRefusedError, UsageError
from energylens.report.extra import need_report


def report(
    store: StoreArgument,
    run: RunArgument = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")] = Path("report"),
    compared: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--compare", metavar="RUN_A RUN_B", help="What the second run changes of the first."
        ),
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(
            help="With --compare: end with exit 3 where this holds, as 'energy > 0.05'; measures "
            "are energy, energy_low, energy_high, worst_category, fvu, l0, live and specialists; "
            "may be repeated."
        ),
    ] = None,
) -> None:
    """Write a run as a report: figures with the queries that made them, tables, specialists with
    their contexts, as a page of HTML, as Markdown and as data; or what a run changes of another."""
    need_report()
    if compared is None:
        if fail_on:
            raise UsageError("--fail-on bounds what a run changes: give --compare RUN_A RUN_B too")
        _whole(store, chosen_run(store, run), out)
        return
    if run is not None:
        raise UsageError(f"'{run}' beside --compare, which names both runs: leave it out")
    one, other = (chosen_run(store, name) for name in compared)
    _compared(store, one, other, fail_on or [], out)


def _whole(store: Path, run: str, out: Path) -> None:
    from energylens.queries.catalog import open_catalog
    from energylens.queries.overview import run_summaries
    from energylens.report.build import write_report

    with open_catalog(store) as opened:
        summary = next(s for s in run_summaries(opened) if s.info.run_id == run)
        made = write_report(opened, summary.info, summary.n_texts, out, _tell)
    typer.echo(f"{len(made.figures)} figures of '{run}' are in '{out}'; open report.html")
    for one in made.missing:
        _tell(f"left out: {one.title}: {one.reason}")


def _compared(store: Path, run: str, other: str, fail_on: list[str], out: Path) -> None:
    from energylens.queries.catalog import open_catalog
    from energylens.report.comparison import write_comparison
    from energylens.report.thresholds import parse_threshold

    if run == other:
        raise UsageError(f"'{run}' is compared with itself; name another run")
    thresholds = [parse_threshold(text) for text in fail_on]
    with open_catalog(store) as opened:
        review = write_comparison(opened, run, other, thresholds, out, _tell)
    typer.echo(f"{review.verdict} The report is in '{out}'")
    if review.broken:
        raise CheckRefusedError(review.verdict)


def _tell(said: str) -> None:
    typer.echo(said, err=True)
