"""Lists of features, and what is known of one: typed calls of the named queries."""

from dataclasses import dataclass
from typing import Unpack

import polars as pl

from energylens.db.store import Reader
from energylens.errors import QueryError
from energylens.queries.catalog import call
from energylens.queries.masks import WithMasked
from energylens.queries.scope import looked_up

_ONE_FEATURE = {"run": True, "sae": True, "feature": True}


@dataclass(frozen=True)
class Feature:
    """One feature's statistics over tokens that are not masked; None where it is silent."""

    run_id: str
    sae_id: str
    feature_id: int
    n_active: int
    n_texts: int
    density: float
    """Share of tokens it is active on."""
    max_activation: float | None
    min_activation: float | None
    mean_activation: float | None
    """Over active tokens."""
    std_activation: float | None
    quantiles: list[float] | None
    """10, 25, 50, 75, 90 and 99 %."""
    histogram: list[int] | None
    """24 equal bins from the lowest to the highest activation."""
    score: float
    """Density times mean activation."""
    top_category: str | None
    selectivity: float | None
    """1 is one category only, 0 is all alike; None where silent or with one category."""
    n_active_unmasked: int
    max_activation_unmasked: float | None
    decoder_norm: float | None
    """None where the index was made without the SAE's weights."""
    is_dense: bool


def feature(store: Reader, run: str | None, sae: str | None, feature: int) -> Feature:
    """One feature's record.

    Raises:
        UnknownNameError: there is no such run, SAE or feature.
        QueryError: the run has no index yet.
    """
    named = looked_up(store, _ONE_FEATURE, {"run": run, "sae": sae, "feature": feature})
    rows = store.cursor().execute(
        "SELECT * FROM features WHERE run_id = $run AND sae_id = $sae AND feature_id = $feature",
        named,
    )
    names = [column[0] for column in rows.description or []]
    row = rows.fetchone()
    if row is None:
        raise QueryError(f"the run '{named['run']}' has no index of its SAEs: energylens index")
    return Feature(**dict(zip(names, row, strict=True)))


def strongest_features(
    store: Reader, run: str | None, sae: str | None, k: int = 20
) -> pl.DataFrame:
    """The `k` features with the highest activation."""
    return call(store, "strongest_features", run=run, sae=sae, k=k)


def most_frequent_features(
    store: Reader, run: str | None, sae: str | None, k: int = 20
) -> pl.DataFrame:
    """The `k` features active on the most tokens."""
    return call(store, "most_frequent_features", run=run, sae=sae, k=k)


def most_selective_features(
    store: Reader, run: str | None, sae: str | None, min_texts: int = 5, k: int = 20
) -> pl.DataFrame:
    """The `k` features whose activation falls into the fewest categories."""
    return call(store, "most_selective_features", run=run, sae=sae, min_texts=min_texts, k=k)


def best_features(
    store: Reader, run: str | None, sae: str | None, with_dense: bool = True, k: int = 20
) -> pl.DataFrame:
    """The `k` features with the highest frequency times mean strength."""
    return call(store, "best_features", run=run, sae=sae, with_dense=with_dense, k=k)


def concept_features(
    store: Reader, run: str | None, sae: str | None, pattern: str, k: int = 20
) -> pl.DataFrame:
    """The `k` features that set texts matching a regular expression apart."""
    return call(store, "concept_features", run=run, sae=sae, pattern=pattern, k=k)


def feature_histogram(
    store: Reader,
    run: str | None,
    sae: str | None,
    feature: int,
    n_bins: int = 24,
    **shown: Unpack[WithMasked],
) -> pl.DataFrame:
    """All activations of one feature in equal bins."""
    return call(
        store,
        "feature_histogram",
        run=run,
        sae=sae,
        feature=feature,
        n_bins=n_bins,
        **shown,
    )


def feature_categories(
    store: Reader, run: str | None, sae: str | None, feature: int
) -> pl.DataFrame:
    """One feature by category of text."""
    return call(store, "feature_categories", run=run, sae=sae, feature=feature)


def promoted_tokens(store: Reader, run: str | None, sae: str | None, feature: int) -> pl.DataFrame:
    """The tokens a feature promotes and suppresses most."""
    return call(store, "promoted_tokens", run=run, sae=sae, feature=feature)


def logit_distribution(
    store: Reader, run: str | None, sae: str | None, feature: int
) -> pl.DataFrame:
    """What one unit of a feature adds to the logits of all tokens: one row, none where the index
    has no logit weights."""
    return call(store, "logit_distribution", run=run, sae=sae, feature=feature)


def similar_features(store: Reader, run: str | None, sae: str | None, feature: int) -> pl.DataFrame:
    """The features with the closest decoder directions."""
    return call(store, "similar_features", run=run, sae=sae, feature=feature)


def coactive_features(
    store: Reader, run: str | None, sae: str | None, feature: int, k: int = 20
) -> pl.DataFrame:
    """The `k` features that share the most tokens with one feature, by Jaccard."""
    return call(store, "coactive_features", run=run, sae=sae, feature=feature, k=k)
