"""`energylens compare`, `energylens efas` and `energylens causality`."""

from typing import Annotated

import typer

from energylens.cli.arguments import StoreArgument
from energylens.cli.extras import need_models
from energylens.cli.names import RunAndSaeArgument, run_and_sae, two_runs
from energylens.cli.sql import FormatOption, checked_format
from energylens.errors import UsageError


def compare(
    store: StoreArgument,
    run: Annotated[
        str | None,
        typer.Argument(
            metavar="[RUN_A]",
            help="A run, or the beginning of its name; left out where there are "
            "two, of which the older comes first.",
        ),
    ] = None,
    other_run: Annotated[str | None, typer.Argument(metavar="[RUN_B]", help="Another one.")] = None,
    how: FormatOption = "table",
    k: Annotated[int, typer.Option(min=1, help="Features listed for each pair of SAEs.")] = 10,
) -> None:
    """Compare two runs: energies, SAEs, features, EFAS and specialists, with tests over texts."""
    from energylens.cli.output import print_frame
    from energylens.queries.catalog import open_catalog
    from energylens.queries.compare import compare_runs
    from energylens.queries.writing import Format

    form = checked_format(how)
    if form in (Format.parquet, Format.csv):
        raise UsageError("a comparison is several tables: --format table, markdown or json")
    run, other_run = two_runs(store, run, other_run)
    with open_catalog(store) as opened:
        found = compare_runs(opened, run, other_run, k)
    way = "text by text" if found.is_paired else "as two samples of texts"
    typer.echo(f"{run} (first) and {other_run} (other), compared {way}", err=True)
    for title, rows in (
        (f"energies, nats a {found.unit}", found.energies),
        ("SAEs at the same place", found.saes),
        ("features that differ most", found.features),
        ("best specialists", found.specialists),
    ):
        if form is Format.json:
            named = rows.insert_column(0, _title(title, len(rows))) if len(rows) else rows
            print_frame(named, form)
        else:
            typer.echo(f"\n{title}")
            if rows.is_empty():
                typer.echo("  nothing to compare")
            else:
                print_frame(rows, form)


def efas(
    store: StoreArgument,
    words: RunAndSaeArgument = None,
    feature: Annotated[
        list[int] | None, typer.Option(help="A feature to test; several may be given.")
    ] = None,
    test: Annotated[
        str, typer.Option(help="Tests of those features: spearman, text, shift.")
    ] = "spearman,text,shift",
    draws: Annotated[int, typer.Option(min=1, help="Draws of text and shift.")] = 999,
    variant: Annotated[
        str, typer.Option(help="The gradient: lens, own, total, calibration.")
    ] = "lens",
    how: FormatOption = "table",
) -> None:
    """Compute EFAS beyond what the ingest kept, by running the run's texts through its model.

    With features, test those by rank correlation, by permuting whole texts, by rotating within
    windows. Without, compute all features for one more gradient and add it to the index: with
    --variant calibration, the null of a calibrated read-out.
    """
    need_models()
    from energylens.cli.output import print_frame
    from energylens.ingest.on_request.another_gradient import add_variant, resample_features
    from energylens.ingest.progress import Progress
    from energylens.queries.catalog import open_catalog
    from energylens.queries.efas import efas_by_layer

    form = checked_format(how)
    run, sae = run_and_sae(store, words)
    progress = Progress(False)
    try:
        if feature:
            names = tuple(part.strip() for part in test.split(",") if part.strip())
            rows = resample_features(store, run, sae, feature, names, variant, draws, progress)
        else:
            add_variant(store, run, sae, variant, progress)
            with open_catalog(store) as opened:
                rows = efas_by_layer(opened, run, variant)
    finally:
        progress.close()
    print_frame(rows, form)


def causality(
    store: StoreArgument,
    words: RunAndSaeArgument = None,
    features: Annotated[
        int, typer.Option(min=1, help="Features drawn, and as many controls.")
    ] = 20,
    contexts: Annotated[int, typer.Option(min=1, help="Contexts each is tried in, at most.")] = 32,
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    how: FormatOption = "table",
) -> None:
    """Ablate sampled features over the corpus and compare the change of energy with what the
    trapezoid of their gradients foretells, beside features that are active as often. The table
    effect_agreements holds the same of first order, Gauss-Newton and EFAS."""
    need_models()
    import polars as pl

    from energylens.cli.output import print_frame
    from energylens.ingest.on_request.causality import BEST, agreements, measure_effects
    from energylens.ingest.progress import Progress
    from energylens.queries.writing import Format

    form = checked_format(how)
    run, sae = run_and_sae(store, words)
    progress = Progress(False)
    try:
        rows = measure_effects(store, run, sae, features, contexts, seed, progress)
    finally:
        progress.close()
    print_frame(rows.drop("run_id", "sae_id"), form)
    if form not in (Format.table, Format.markdown):
        return
    summary = [
        {
            "energy": energy,
            "features": group,
            "n": found.n,
            "correlation": found.correlation,
            "slope": _interval(found.slope),
            "same sign": _interval(found.sign_agreement),
            "relative error": _interval(found.relative_error),
        }
        for energy, group, prediction, found in agreements(rows)
        if prediction == BEST
    ]
    typer.echo(
        f"\nmeasured against the {BEST}; in brackets 95 % intervals over features. First "
        "order, Gauss-Newton and EFAS: the table effect_agreements"
    )
    print_frame(pl.DataFrame(summary), form)


def _interval(values: tuple[float, float, float]) -> str:
    from energylens.queries.display import number

    value, low, high = (number(x) for x in values)
    return f"{value} [{low}, {high}]"


def _title(title: str, n: int):
    import polars as pl

    return pl.Series("table", [title.partition(",")[0]] * n)
