"""`energylens saes`."""

from typing import Annotated

import typer

from energylens.cli.arguments import ColumnsOption, PagerOption
from energylens.cli.extras import need_models
from energylens.cli.groups import Commands
from energylens.cli.sources import need_sources
from energylens.cli.sql import FormatOption, checked_format

app = typer.Typer(
    cls=Commands, no_args_is_help=True, rich_markup_mode=None, help="SAEs beside each other."
)


@app.callback()
def _saes() -> None:
    """SAEs beside each other."""


@app.command()
def compare(
    saes: Annotated[
        list[str], typer.Argument(help="SAEs of one hook, as for `energylens ingest --sae`.")
    ],
    model: Annotated[str, typer.Option(help="A directory, a hub name, or builtin:...")],
    texts: Annotated[str, typer.Option(help="Texts that none of them was trained on.")],
    how: FormatOption = "table",
    columns: ColumnsOption = None,
    pager: PagerOption = False,
) -> None:
    """Compare SAEs of one hook, pretrained ones among them: fvu, L0, CE recovered, dead, dense,
    specialists, and cosines between dictionaries (`to_2` is to the SAE in row 2)."""
    need_models()
    need_sources(model, saes, texts)
    import polars as pl

    from energylens.cli.output import View, print_frame
    from energylens.ingest.compared_saes import compare_saes
    from energylens.ingest.progress import Progress

    form = checked_format(how)
    progress = Progress()
    try:
        found = compare_saes(model, texts, tuple(saes), progress)
    finally:
        progress.close()
    rows = [
        {
            "row": number,
            "sae": one.sae_id,
            "source": one.source,
            "architecture": one.architecture,
            "d_sae": one.d_sae,
            "l0": _rounded(one.l0, 2),
            "fvu": _rounded(one.fvu, 4),
            "ce_recovered": _rounded(one.ce_recovered, 4),
            "n_dead": one.n_dead,
            "n_dense": one.n_dense,
            "n_specialists": one.n_specialists,
            "n_categories": one.n_categories,
            **{f"to_{n}": _rounded(cosine, 3) for n, cosine in enumerate(one.cosines, start=1)},
        }
        for number, one in enumerate(found, start=1)
    ]
    print_frame(pl.DataFrame(rows), form, View(columns, pager))


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
