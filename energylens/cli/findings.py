"""What a store shows, as text: for the demo where there is no terminal."""

from pathlib import Path

import polars as pl
import typer

from energylens.cli.output import print_frame
from energylens.db.store import Store
from energylens.queries.catalog import open_catalog
from energylens.queries.contexts import top_activations
from energylens.queries.display import visible_token
from energylens.queries.efas import efas_by_layer
from energylens.queries.energies import category_summary, energy_by_layer
from energylens.queries.features import feature, most_selective_features
from energylens.queries.routing import anchor_tokens, routing_health
from energylens.queries.specialists import specialist_categories
from energylens.queries.writing import Format


def print_findings(store: Path, run_id: str) -> None:
    """Print the run's categories, its energy by layer, and each SAE's most selective features."""
    with open_catalog(store) as opened:
        run = opened.run(run_id).info
        typer.echo(f"\nTexts of {run_id} by category (energies in nats a token)")
        print_frame(category_summary(opened, run_id), Format.table)
        typer.echo("\nMean energy under the logit lens, layer by layer (-1 is the embedding)")
        layers = energy_by_layer(opened, run_id)
        print_frame(layers.filter(layers["is_all"]).drop("category", "is_all"), Format.table)
        health = routing_health(opened, run_id)
        if len(health):
            _print_routing(opened, run_id, health)
        if run.saes:
            _print_analyses(opened, run_id, tuple(run.efas))
        for sae in run.saes:
            typer.echo(f"\nMost selective features of {sae.sae_id}")
            rows = most_selective_features(opened, run_id, sae.sae_id, k=8)
            print_frame(rows, Format.table)
            if len(rows):
                _print_best(opened, run_id, sae.sae_id, int(rows["feature_id"][0]))
    typer.echo(f"\nExplore it in a terminal: energylens tui {store}")


def _print_routing(store: Store, run_id: str, health: pl.DataFrame) -> None:
    shown = ("layer", "n_dead", "max_vio", "concentration", "routing_information")
    typer.echo("\nRouters: load, how sure they are, and what a token tells of its choice")
    print_frame(health.select(*shown, "seen_correlation", "energy_ceiling"), Format.table)
    last = int(health["layer"].to_list()[-1])
    typer.echo(f"\nTokens that the choices of layer {last} take most beyond their share")
    rows = anchor_tokens(store, run_id, last, k=6)
    words = [" ".join(visible_token(t) for t in tokens) for tokens in rows["tokens"].to_list()]
    print_frame(rows.select("choice_id", "share", pl.Series("tokens", words)), Format.table)


def _print_analyses(store: Store, run_id: str, variants: tuple[str, ...]) -> None:
    typer.echo("\nSpecialists: in how many SAEs a category has one, and the best of them")
    print_frame(specialist_categories(store, run_id), Format.table)
    for variant in variants:
        typer.echo(f"\nEFAS with the gradient '{variant}': features tested, found, and how large")
        print_frame(efas_by_layer(store, run_id, variant).drop("rate_correlation"), Format.table)
    typer.echo(
        "EFAS says where the read-out is miscalibrated along a feature, not which feature matters; "
        "'calibration' draws its labels from the lens and shows what chance gives"
    )


def _print_best(store: Store, run_id: str, sae_id: str, feature_id: int) -> None:
    found = feature(store, run_id, sae_id, feature_id)
    typer.echo(f"\nWhere feature {feature_id} of {sae_id} is strongest ({found.top_category})")
    top = top_activations(store, run_id, sae_id, feature_id, k=4)
    print_frame(top.select("activation", "text_before", "token", "text_after"), Format.table)
