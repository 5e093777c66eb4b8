"""EFAS and what goes with the energy: typed calls of the named queries."""

import polars as pl

from energylens.db.store import Reader
from energylens.queries.catalog import call


def efas_ranking(
    store: Reader, run: str, sae: str, of_variant: str = "lens", k: int = 20
) -> pl.DataFrame:
    """The `k` surest features by EFAS, with what it is made of and every test."""
    return call(store, "efas_ranking", run=run, sae=sae, of_variant=of_variant, k=k)


def feature_efas(store: Reader, run: str, sae: str, feature: int) -> pl.DataFrame:
    """One feature's EFAS in every variant."""
    return call(store, "feature_efas", run=run, sae=sae, feature=feature)


def efas_by_layer(store: Reader, run: str, of_variant: str = "lens") -> pl.DataFrame:
    """EFAS of each SAE: tested features, discoveries, sizes."""
    return call(store, "efas_by_layer", run=run, of_variant=of_variant)


def efas_by_category(store: Reader, run: str, sae: str, of_variant: str = "lens") -> pl.DataFrame:
    """EFAS within each category of texts."""
    return call(store, "efas_by_category", run=run, sae=sae, of_variant=of_variant)


def efas_split(
    store: Reader, run: str, sae: str, of_variant: str = "lens", k: int = 20
) -> pl.DataFrame:
    """Features picked on one half of the texts and reported on the other."""
    return call(store, "efas_split", run=run, sae=sae, of_variant=of_variant, k=k)


def efas_histogram(
    store: Reader,
    run: str,
    sae: str,
    of_variant: str = "lens",
    n_bins: int = 41,
    of_within: bool = False,
) -> pl.DataFrame:
    """How EFAS is distributed, or EFAS within texts, with the calibration null where it was
    computed."""
    return call(
        store,
        "efas_histogram",
        run=run,
        sae=sae,
        of_variant=of_variant,
        n_bins=n_bins,
        of_within=of_within,
    )


def efas_scatter(store: Reader, run: str, sae: str, feature: int, k: int = 2000) -> pl.DataFrame:
    """The tokens of one feature: activation, g and energy; at most `k`."""
    return call(store, "efas_scatter", run=run, sae=sae, feature=feature, k=k)


def energy_features(
    store: Reader, run: str, sae: str, is_high: bool = True, k: int = 20
) -> pl.DataFrame:
    """The `k` features that go most with high (or low) energy."""
    return call(store, "energy_features", run=run, sae=sae, is_high=is_high, k=k)


def drop_features(
    store: Reader, run: str, sae: str, is_high: bool = True, k: int = 20
) -> pl.DataFrame:
    """The `k` features that go most with what later blocks are worth, or (`is_high` false) with
    how little."""
    return call(store, "drop_features", run=run, sae=sae, is_high=is_high, k=k)
