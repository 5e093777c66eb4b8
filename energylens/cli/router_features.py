"""`energylens train mesanet --router-features`: what a stored run knows, shown to a router."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from energylens.cli.names import chosen_run
from energylens.errors import UsageError

if TYPE_CHECKING:
    from energylens.lens.models import LanguageModel

FeaturesOption = Annotated[
    Path | None,
    typer.Option(
        "--router-features",
        metavar="STORE",
        help="With --from: show the router of a block the features of an SAE before it that have "
        "the most significant EFAS in a stored run of that model.",
    ),
]
RunOption = Annotated[
    str | None,
    typer.Option("--run", help="With --router-features: the run, where there are several."),
]
SaeOption = Annotated[
    str | None,
    typer.Option("--sae", help="With --router-features: the SAE, where there are several."),
]
TopOption = Annotated[
    int, typer.Option("--top", min=1, help="With --router-features: how many features.")
]
ShuffledOption = Annotated[
    bool,
    typer.Option(
        "--shuffled-features",
        help="With --router-features: the router sees those of another text, to compare.",
    ),
]
TOP = 16
"""Features shown where nothing is said."""


@dataclass(frozen=True)
class Wanted:
    """Features that a router is to be shown."""

    store: Path
    run: str | None
    sae: str | None
    top: int
    is_shuffled: bool


def wanted_features(
    store: Path | None,
    run: str | None,
    sae: str | None,
    top: int,
    is_shuffled: bool,
    begin_with: str | None,
) -> Wanted | None:
    """What the options ask for; None where no features are shown.

    Raises:
        UsageError: they do not go together.
    """
    if store is None:
        if run is not None or sae is not None or top != TOP or is_shuffled:
            raise UsageError(
                "--run, --sae, --top and --shuffled-features say which features of a store a "
                "router is shown; give the store as --router-features"
            )
        return None
    if begin_with is None:
        raise UsageError(
            "--router-features takes what a run of a trained MesaNet has found; give that model as "
            "--from"
        )
    return Wanted(store, run, sae, top, is_shuffled)


def show_features(model: "LanguageModel", wanted: Wanted, texts: str) -> dict[str, Any]:
    """Show them to the model's router, and tell of it; what the training is known by."""
    from energylens.ingest.on_request.router_features import significant_features

    run = chosen_run(wanted.store, wanted.run)
    found = significant_features(wanted.store, run, wanted.sae, model, wanted.top, texts)
    model.hf_model.add_router_features(found.layer, found.rows, wanted.is_shuffled)
    whose = "another text's " if wanted.is_shuffled else ""
    typer.echo(
        f"the router of block {found.layer} sees {whose}{len(found.chosen)} features of "
        f"'{found.sae.sae_id}' (q of EFAS up to {found.chosen[-1].q:.2g} over "
        f"{found.run.n_texts:,} texts)",
        err=True,
    )
    if found.contaminated:
        typer.echo(
            f"contaminated: {found.contaminated:,} texts of the run '{run}' are among those "
            "trained on, so what EFAS says of them is not from other texts",
            err=True,
        )
    return {
        "router_features": {
            "sae": found.sae.weights_sha256,
            "features": [one.feature_id for one in found.chosen],
            "shuffled": wanted.is_shuffled,
        }
    }
