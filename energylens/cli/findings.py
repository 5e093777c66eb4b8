"""What a store shows, as text: for the demo where there is no terminal."""

from pathlib import Path

import typer

from db.store import Store
from energylens.cli.output import print_frame
from queries.catalog import open_catalog
from queries.contexts import top_activations
from queries.efas import efas_by_layer
from queries.energies import category_summary, energy_by_layer
from queries.features import feature, most_selective_features
from queries.specialists import specialist_categories
from queries.writing import Format


def print_findings(store: Path, run_id: str) -> None:
    """Print the run's categories, its energy by layer, and each SAE's most selective features."""
    with open_catalog(store) as opened:
        run = opened.run(run_id).info
        typer.echo(f"\nTexts of {run_id} by category (energies in nats a token)")
        print_frame(category_summary(opened, run_id), Format.table)
        typer.echo("\nMean energy under the logit lens, layer by layer (-1 is the embedding)")
        layers = energy_by_layer(opened, run_id)
        print_frame(layers.filter(layers["is_all"]).drop("category", "is_all"), Format.table)
        if run.saes:
            _print_analyses(opened, run_id, tuple(run.efas))
        for sae in run.saes:
            typer.echo(f"\nMost selective features of {sae.sae_id}")
            rows = most_selective_features(opened, run_id, sae.sae_id, k=8)
            print_frame(rows, Format.table)
            if len(rows):
                _print_best(opened, run_id, sae.sae_id, int(rows["feature_id"][0]))
    typer.echo(f"\nExplore it in a terminal: energylens tui {store}")


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
