"""`energylens routing`: what the anchors of a MesaNet do, and what happens without them."""

from typing import Annotated

import typer

from energylens.cli.arguments import StoreArgument
from energylens.cli.extras import need_models
from energylens.cli.names import RunArgument, chosen_run
from energylens.cli.sql import FormatOption, checked_format


def routing(
    store: StoreArgument,
    run: RunArgument = None,
    contexts: Annotated[int, typer.Option(min=2, help="Contexts tried, drawn at random.")] = 64,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    how: FormatOption = "table",
) -> None:
    """Permute the energy the routers see and leave out each anchor in turn, over the run's texts;
    then report every figure of the routers with intervals, baselines and what it means."""
    need_models()
    import polars as pl

    from energylens.cli.output import print_frame
    from energylens.ingest.on_request.routing_effects import measure_routing
    from energylens.ingest.progress import Progress
    from energylens.queries.catalog import open_catalog
    from energylens.queries.routing import anchor_effects, routing_report
    from energylens.queries.writing import Format

    form = checked_format(how)
    run = chosen_run(store, run)
    progress = Progress(False)
    try:
        measure_routing(store, run, contexts, seed, progress)
    finally:
        progress.close()
    with open_catalog(store) as opened:
        report = routing_report(opened, run)
        print_frame(report, form)
        above = report.filter(
            (pl.col("metric") == "seen_energy_over_ceiling") & (pl.col("low") > 0)
        )
        for router in above["router"]:
            typer.echo(
                f"warning: {router} sees more of the energy than the ceiling of causal figures: "
                "a leak of the next token, or a model far from calibrated",
                err=True,
            )
        if form in (Format.table, Format.markdown):
            typer.echo("\nanchors left out, change of energy in nats a token")
            print_frame(anchor_effects(opened, run), form)
