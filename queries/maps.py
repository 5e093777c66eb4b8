"""Features on a map, and across SAEs: typed calls of the named queries."""

import polars as pl

from energylens.db.store import Reader
from energylens.queries.catalog import call


def mapped_features(store: Reader, run: str, sae: str) -> pl.DataFrame:
    """Every feature of an SAE with its place on the map, the most active ones first."""
    return call(store, "mapped_features", run=run, sae=sae)


def linked_features(store: Reader, run: str, sae: str, feature: int, k: int = 3) -> pl.DataFrame:
    """The `k` features of each other SAE that a feature goes with most, in each way."""
    return call(store, "linked_features", run=run, sae=sae, feature=feature, k=k)
