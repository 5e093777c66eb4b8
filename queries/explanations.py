"""What features are said to stand for."""

import polars as pl

from energylens.db.store import Reader
from energylens.queries.catalog import call


def feature_explanations(store: Reader, run: str, sae: str, feature: int) -> pl.DataFrame:
    """The explanations of one feature, the one that is its label first."""
    return call(store, "feature_explanations", run=run, sae=sae, feature=feature)


def explained_features(
    store: Reader, run: str, pattern: str = "", in_sae: str | None = None, k: int = 1000
) -> pl.DataFrame:
    """Features whose explanation matches a regular expression, the best scored first; in_sae None
    is every SAE."""
    return call(store, "explained_features", run=run, pattern=pattern, in_sae=in_sae, k=k)


def scored_explanations(
    store: Reader,
    run: str,
    in_sae: str | None = None,
    feature: int | None = None,
    k: int = 1000,
) -> pl.DataFrame:
    """Explanations with every score known of them, the best first; in_sae None is every SAE,
    feature None every feature."""
    return call(store, "scored_explanations", run=run, in_sae=in_sae, feature=feature, k=k)


def search_features(
    store: Reader, run: str, words: str, in_sae: str | None = None, k: int = 50
) -> pl.DataFrame:
    """Features that some words lead to, by explanations, tokens, contexts and promoted tokens, the
    best first; in_sae None is every SAE."""
    return call(store, "search_features", run=run, words=words, in_sae=in_sae, k=k)
