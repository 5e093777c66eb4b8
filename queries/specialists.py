"""Features that stand for a category of texts: typed calls of the named queries."""

import polars as pl

from energylens.db.store import Reader
from energylens.queries.catalog import call


def find_specialists(
    store: Reader, run: str, sae: str, threshold: float = 0.25, with_padding: bool = False
) -> pl.DataFrame:
    """Every feature against every category, at any threshold: scores, rates, AUROC and tests."""
    return call(
        store,
        "find_specialists",
        run=run,
        sae=sae,
        threshold=threshold,
        with_padding=with_padding,
    )


def ranked_specialists(
    store: Reader, run: str, sae: str, in_category: str, k: int = 20
) -> pl.DataFrame:
    """The `k` best specialists of one category in an SAE."""
    return call(store, "ranked_specialists", run=run, sae=sae, in_category=in_category, k=k)


def specialist_matrix(store: Reader, run: str) -> pl.DataFrame:
    """The best specialist of each category in each SAE, and whether it is found."""
    return call(store, "specialist_matrix", run=run)


def specialist_categories(store: Reader, run: str) -> pl.DataFrame:
    """For each category, in how many SAEs it has a specialist, and where the best is."""
    return call(store, "specialist_categories", run=run)


def layer_progression(store: Reader, run: str) -> pl.DataFrame:
    """Each SAE, layer by layer: coverage, peak activation and specialists."""
    return call(store, "layer_progression", run=run)


def stream_comparison(store: Reader, run: str) -> pl.DataFrame:
    """Residual, attention and MLP streams compared."""
    return call(store, "stream_comparison", run=run)


def padding_effect(store: Reader, run: str, sae: str, threshold: float = 0.25) -> pl.DataFrame:
    """An SAE's specialists with real lengths, and with every text padded to the longest."""
    return call(store, "padding_effect", run=run, sae=sae, threshold=threshold)
