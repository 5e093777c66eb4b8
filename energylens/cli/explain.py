"""`energylens explain`."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from energylens.cli.arguments import JsonOption, StoreArgument
from energylens.cli.names import run_and_files


def explain(
    store: StoreArgument,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] FILE...",
            help="JSONL, JSON, CSV or Parquet: Neuronpedia's exports, or your own; before them the "
            "run, or the beginning of its name, where there are several.",
        ),
    ],
    sae: Annotated[
        str | None, typer.Option(help="The SAE; needed where the run has several.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of those the SAE has, not beside them.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Take in explanations of features in words: columns feature_id (or index) and description,
    and if there are any, method, model and score. Lists and filters show the best as `label`."""
    from energylens.ingest.explanations import explain as take_in
    from energylens.queries.catalog import open_catalog, write_catalog

    run, files = run_and_files(store, words)
    with open_catalog(store) as opened:
        info, layout = opened.run(run).info, opened.layout.run(run)
    done = take_in(layout, info, files, sae, replace)
    write_catalog(store)
    if as_json:
        typer.echo(json.dumps(asdict(done)))
        return
    left = f"; {done.n_elsewhere:,} rows are about other SAEs" if done.n_elsewhere else ""
    typer.echo(
        f"{done.n_explanations:,} explanations of {done.n_features:,} features of "
        f"'{done.sae_id}'{left}",
        err=True,
    )
