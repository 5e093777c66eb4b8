"""Where features are active, token by token: typed calls of the named queries."""

from typing import Unpack

import polars as pl

from energylens.db.store import Reader
from energylens.queries.catalog import call
from energylens.queries.masks import WithMasked


def top_activations(
    store: Reader,
    run: str | None,
    sae: str | None,
    feature: int,
    k: int = 20,
    **shown: Unpack[WithMasked],
) -> pl.DataFrame:
    """The `k` tokens on which a feature is strongest, with the text around them."""
    return call(store, "top_activations", run=run, sae=sae, feature=feature, k=k, **shown)


def feature_contexts(
    store: Reader, run: str | None, sae: str | None, feature: int, k: int = 20
) -> pl.DataFrame:
    """The `k` contexts in which a feature is strongest, one row each."""
    return call(store, "feature_contexts", run=run, sae=sae, feature=feature, k=k)


def activation_samples(
    store: Reader,
    run: str | None,
    sae: str | None,
    feature: int,
    n_intervals: int = 5,
    k: int = 2,
    **shown: Unpack[WithMasked],
) -> pl.DataFrame:
    """`k` tokens from each of `n_intervals` intervals of a feature's activation."""
    return call(
        store,
        "activation_samples",
        run=run,
        sae=sae,
        feature=feature,
        n_intervals=n_intervals,
        k=k,
        **shown,
    )


def feature_text_means(
    store: Reader, run: str | None, sae: str | None, feature: int
) -> pl.DataFrame:
    """Every text with one feature's activation in it."""
    return call(store, "feature_text_means", run=run, sae=sae, feature=feature)


def context_tokens(
    store: Reader,
    run: str | None,
    in_context: int,
    sae: str | None = None,
    feature: int | None = None,
) -> pl.DataFrame:
    """The tokens of one context, with one feature's activations where a feature is given."""
    return call(store, "context_tokens", run=run, in_context=in_context, sae=sae, feature=feature)


def token_features(
    store: Reader, run: str | None, at_token: int, sae: str | None = None, k: int = 20
) -> pl.DataFrame:
    """The `k` features active at one token, strongest first; of all SAEs where none is given."""
    return call(store, "token_features", run=run, at_token=at_token, sae=sae, k=k)


def text_contexts(store: Reader, run: str | None, in_text: int) -> pl.DataFrame:
    """The contexts of one text, in order."""
    return call(store, "text_contexts", run=run, in_text=in_text)


def search_texts(store: Reader, run: str | None, words: str, k: int = 20) -> pl.DataFrame:
    """The `k` texts that hold some words most often."""
    return call(store, "search_texts", run=run, words=words, k=k)


def search_tokens(store: Reader, run: str | None, words: str, k: int = 20) -> pl.DataFrame:
    """The `k` commonest tokens that hold some words."""
    return call(store, "search_tokens", run=run, words=words, k=k)
