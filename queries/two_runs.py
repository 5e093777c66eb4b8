"""What the store tells of two runs, side by side and without tests."""

import polars as pl

from energylens.db.store import Reader
from energylens.queries.catalog import call


def compare_texts(store: Reader, run: str, other_run: str) -> pl.DataFrame:
    """Energies of the texts both runs read."""
    return call(store, "compare_texts", run=run, other_run=other_run)


def compare_saes(store: Reader, run: str, other_run: str, of_variant: str = "lens") -> pl.DataFrame:
    """SAEs that read at the same place, side by side."""
    return call(store, "compare_saes", run=run, other_run=other_run, of_variant=of_variant)


def compare_rates(
    store: Reader, run: str, sae: str, other_run: str, other_sae: str, of_variant: str = "lens"
) -> pl.DataFrame:
    """The features of one SAE in two runs that used it."""
    return call(
        store,
        "compare_rates",
        run=run,
        sae=sae,
        other_run=other_run,
        other_sae=other_sae,
        of_variant=of_variant,
    )
