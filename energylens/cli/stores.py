"""`energylens info`, `energylens verify` and `energylens merge`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from energylens.cli.arguments import JsonOption, StoreArgument


def info(
    store: StoreArgument,
    schema: Annotated[
        bool, typer.Option("--schema", help="What each table and column means.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show a store's runs and SAEs, what is computed and what is missing."""
    from energylens.queries.activations import activation_statistics
    from energylens.queries.catalog import open_catalog
    from energylens.queries.overview import run_summaries

    with open_catalog(store) as opened:
        summaries = run_summaries(opened)
        kept = {
            run.info.run_id: activation_statistics(opened, run.info.run_id) for run in summaries
        }
    if schema:
        _print_schema()
        return
    if as_json:
        for run in summaries:
            typer.echo(json.dumps(asdict(run) | {"activations": kept[run.info.run_id]}))
        return
    if not summaries:
        typer.echo(f"'{store}' holds no run yet; make one with: energylens ingest {store} ...")
    for run in summaries:
        made = run.info
        energy = "·" if run.mean_energy is None else f"{run.mean_energy:.3f}"
        typer.echo(
            f"{made.run_id}\n"
            f"  {made.model} ({made.model_class}, {made.n_layers} layers, d_model {made.d_model})\n"
            f"  {made.texts}: {run.n_texts:,} texts, {run.n_tokens:,} tokens, "
            f"contexts of {made.n_ctx}, {'with' if made.prepend_bos else 'without'} BOS\n"
            f"  shards {run.n_shards_complete} of {made.n_shards}, index {run.index}, "
            f"{run.n_codes:,} codes, mean energy {energy} nats"
        )
        for sae in made.saes:
            score = "·" if sae.ce_loss_score is None else f"{sae.ce_loss_score:.3f}"
            typer.echo(
                f"    {sae.sae_id}: {sae.architecture} {sae.d_in} x {sae.d_sae} at "
                f"{sae.hook_name}, fvu {sae.fvu:.3f}, L0 {sae.l0:.1f}, dead {sae.n_dead}, "
                f"CE recovered {score}, gate {sae.gate}"
            )
        for hook in kept[made.run_id]:
            typer.echo("\n".join(_kept_lines(hook)))


def _kept_lines(hook: dict[str, Any]) -> list[str]:
    """What is known of the activations kept at one hook."""
    if not hook["n_tokens"]:
        return [f"    activations at {hook['hook_name']}: none of a text's own tokens"]
    lines = [
        f"    activations at {hook['hook_name']}: {hook['n_tokens']:,} tokens x {hook['d_in']}",
        f"      norm {hook['mean_norm']:.4g} on average, median {hook['median_norm']:.4g}, largest "
        f"{hook['max_norm']:.4g} ({hook['max_ratio']:.3g} medians); "
        f"{100 * hook['share_sinks']:.3g} % are sinks",
        f"      mean vector of norm {hook['norm_of_mean']:.4g}, variance {hook['variance']:.4g}",
    ]
    if hook["n_left_out"]:
        lines.append(
            f"      special and first tokens, left out: {hook['n_left_out']:,}, norm up to "
            f"{hook['max_norm_left_out']:.4g}"
        )
    if hook["outlier_dimensions"]:
        named = ", ".join(
            f"{one['dimension']} (rms {one['rms']:.3g}, {one['ratio']:.3g} medians)"
            for one in hook["outlier_dimensions"]
        )
        lines.append(f"      outlier dimensions: {named}")
    return lines


def _print_schema() -> None:
    from energylens.db.schema import TABLES
    from energylens.db.views import sql_type

    for table in TABLES.values():
        typer.echo(f"{table.name}  ({', '.join(table.key)})\n  {table.doc}")
        for column in table.columns:
            typer.echo(f"    {column.name} {sql_type(column.type)}: {column.doc}")


def verify(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Check every file and every key of a store; exit 1 where something is wrong."""
    from energylens.db.verify import verify_store

    problems = verify_store(store, lambda what: typer.echo(f"checking {what}", err=True))
    for problem in problems:
        typer.echo(
            json.dumps(asdict(problem))
            if as_json
            else f"{problem.where}: {problem.what}\n  {problem.remedy}"
        )
    if problems:
        raise typer.Exit(1)
    typer.echo("the store is sound", err=True)


def merge(
    store: StoreArgument,
    sources: Annotated[list[Path], typer.Argument(help="Stores to take runs and shards from.")],
) -> None:
    """Bring the shards of several stores together, then index what is new."""
    from energylens.cli.ingest import index
    from energylens.db.merge import merge_stores

    for run_id, n in merge_stores(store, sources).items():
        typer.echo(f"{run_id}: {n} shards added", err=True)
    index(store)
