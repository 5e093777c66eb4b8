"""`energylens repair`: gains of features that lower a model's energy, beside everything else."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from energylens.cli.arguments import StoreArgument
from energylens.cli.extras import need_models
from energylens.cli.interact import SaeOption
from energylens.cli.names import RunArgument, chosen_run
from energylens.cli.sql import FormatOption, checked_format
from energylens.errors import UsageError

if TYPE_CHECKING:
    import polars as pl


def repair(
    store: StoreArgument,
    run: RunArgument = None,
    sae: SaeOption = "",
    top: Annotated[int, typer.Option(min=1, help="Features that get a gain.")] = 100,
    by: Annotated[
        str,
        typer.Option(
            help="What they are chosen by: attribution, efas, efas-lens, frequency, "
            "output-score, random."
        ),
    ] = "attribution",
    gain: Annotated[float, typer.Option(help="How far each is turned, up or down.")] = 0.3,
    splits: Annotated[int, typer.Option(min=1, help="Ways to halve the texts.")] = 4,
    texts: Annotated[int, typer.Option(min=1, help="Texts used, drawn at random.")] = 400,
    category: Annotated[
        str | None, typer.Option(help="Only texts of this category; of all without.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    tuned: Annotated[
        bool,
        typer.Option(help="Try what is learned by descent, too: gains, a tuned lens, weights."),
    ] = True,
    trained_on: Annotated[
        str | None,
        typer.Option(
            metavar="TEXTS",
            help="What the SAE was trained on: texts of the run among them are counted.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the gains go.")] = Path(
        "gains.safetensors"
    ),
    how: FormatOption = "table",
) -> None:
    """Turn features up or down so that the model predicts better: learned on half of the texts,
    judged on the other, several times, beside controls and rivals learned on the same half."""
    need_models()
    from energylens.cli.output import print_frame
    from energylens.ingest.on_request.repair import TOGETHER, repair
    from energylens.ingest.on_request.repair_split import Wish
    from energylens.ingest.progress import Progress
    from energylens.lens.gains import gains_bytes
    from energylens.queries.writing import Format, whole_file

    form = checked_format(how)
    if not 0 < gain <= 1:
        raise UsageError(f"--gain {gain:g} is no share to turn a feature by; give 0.3 or the like")
    run_id = chosen_run(store, run)
    sae_id = _sae(store, run_id, sae)
    wish = Wish(top, by, gain, splits, seed, tuned)
    progress = Progress(False)
    try:
        found = repair(store, run_id, sae_id, wish, texts, progress, trained_on, category)
    finally:
        progress.close()
    with whole_file(out) as partial:
        partial.write_bytes(gains_bytes(found.gains))
    rows = found.rows
    if form in (Format.table, Format.markdown):
        rows = _shown(rows.filter(split=TOGETHER))
    print_frame(rows, form)
    _tell(found.rows, out)


def _sae(store: Path, run_id: str, given: str) -> str:
    from energylens.queries.names import find_run, find_sae, stored_runs

    return find_sae(find_run(stored_runs(store), run_id), given or None).sae_id


def _shown(rows: "pl.DataFrame") -> "pl.DataFrame":
    """One line a condition, in the order they were tried, the change from each thing beside it."""
    import polars as pl

    from energylens.ingest.on_request.repair import NOTHING
    from energylens.ingest.on_request.repair_split import CONDITIONS, GLOBAL
    from energylens.queries.display import number

    said = {}
    for row in rows.iter_rows(named=True):
        value, low, high = (number(row[f"change{end}"]) for end in ("", "_low", "_high"))
        interval = f" [{low}, {high}]" if row["change_low"] is not None else ""
        said[row["condition"], row["against"]] = f"{value}{interval}"
    by = f"by {rows['chosen_by'][0]}"
    amounts = dict(zip(rows["condition"], rows["amount"], strict=True))
    return pl.DataFrame(
        [
            {
                "condition": name,
                "learned": number(amounts[name]) if amounts[name] is not None else None,
                "change": said[name, NOTHING],
                f"beyond the {GLOBAL}": said.get((name, GLOBAL)),
                f"against {by}": said.get((name, by)),
            }
            for name in CONDITIONS
            if (name, NOTHING) in said
        ],
        infer_schema_length=None,
    )


def _tell(rows: "pl.DataFrame", out: Path) -> None:
    """What the table does not say of itself, to stderr."""
    first = rows.filter(split=0).row(0, named=True)
    n_splits = int(rows["split"].max() or 0) + 1  # pyright: ignore
    typer.echo(
        f"nats a token on texts not learned on, 95 % intervals by text; {n_splits} splits of "
        f"{first['n_learned'] + first['n_judged']} texts; {first['n_features']} features turned by "
        f"{first['gain']:g}; the gains are in '{out}'",
        err=True,
    )
    contaminated = first["contaminated"]
    if contaminated:
        typer.echo(
            f"contaminated: the SAE was trained on {contaminated:,} texts of this run", err=True
        )
    elif contaminated is None:
        typer.echo(
            "whether the SAE was trained on these texts is not known: --trained-on compares",
            err=True,
        )
