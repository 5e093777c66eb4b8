"""`energylens page`."""

from pathlib import Path
from typing import Annotated

import typer

from energylens.cli.arguments import StoreArgument
from energylens.cli.names import run_and_sae
from energylens.errors import UsageError


def page(
    store: StoreArgument,
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RUN] [SAE] [FEATURE]",
            help="A run and one of its SAEs, or the beginning of their names, each left out where "
            "there is one; then the number of a feature, or none with --top or --all.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The file to write; with --top or --all, the folder."),
    ] = None,
    top: Annotated[
        int | None, typer.Option(help="A folder of so many features, those with most activation.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="A folder of all features that are active.")
    ] = False,
) -> None:
    """Write what is known of a feature as a page of HTML that needs nothing beside it, or those of
    many features as a folder with a list."""
    from energylens.ingest.progress import Progress
    from energylens.queries.catalog import open_catalog
    from energylens.queries.names import check_number, find_sae
    from energylens.queries.pages.feature_pages import (
        most_active,
        write_feature_folder,
        write_feature_page,
    )

    names, number = _split(words or [], asks_many=every or top is not None)
    if every and top is not None:
        raise UsageError("--top and --all are two ways to say how many; give one")
    if top is not None and top < 1:
        raise UsageError(f"--top says how many features; it cannot be {top}")
    run_id, sae_id = run_and_sae(store, names)
    with open_catalog(store) as opened:
        run = opened.run(run_id).info
        sae = find_sae(run, sae_id)
        if number is not None:
            chosen = check_number("feature", number, sae.d_sae, f"'{sae.sae_id}'")
            to = out or Path(f"feature-{chosen}.html")
            write_feature_page(opened, run, sae, chosen, to)
            typer.echo(f"feature {chosen} of '{sae.sae_id}' is in '{to}'")
            return
        features = most_active(opened, run_id, sae_id, top)
        folder, progress = out or Path("features"), Progress()
        try:
            write_feature_folder(
                opened, run, sae, features, folder,
                lambda done, of: progress.step("pages", done, of, "features"),
            )  # fmt: skip
        finally:
            progress.close()
    typer.echo(f"{len(features):,} features of '{sae_id}' are in '{folder}'; open index.html")


def _split(words: list[str], asks_many: bool) -> tuple[list[str], str | None]:
    """Names of run and SAE, and the feature's number."""
    if asks_many:
        return words, None
    if not words or not words[-1].isdecimal():
        raise UsageError("which feature? its number comes last; or give --top N, or --all")
    return words[:-1], words[-1]
