"""Heads of attention, what they do and what their weights say: typed calls of the named queries."""

import polars as pl

from energylens.db.store import Reader
from energylens.queries.catalog import call

MOST_HEADS = 1_000_000
"""More than a model has."""


def head_ranking(
    store: Reader, run: str, by_score: str = "induction", k: int = 1000
) -> pl.DataFrame:
    """Heads by one of their scores, the highest first; empty until measured."""
    return call(store, "head_ranking", run=run, by_score=by_score, k=k)


def copying_heads(store: Reader, run: str, k: int = 1000) -> pl.DataFrame:
    """Heads that make what they attend to likelier, beyond random ones."""
    return call(store, "copying_heads", run=run, k=k)


def head_tokens(
    store: Reader, run: str, from_layer: int, at_head: int, k: int = 20
) -> pl.DataFrame:
    """The strongest pairs of one head, with the text around them."""
    return call(store, "head_tokens", run=run, from_layer=from_layer, at_head=at_head, k=k)


def head_skip_trigrams(
    store: Reader, run: str, from_layer: int, at_head: int, k: int = 20
) -> pl.DataFrame:
    """What one head's weights say of tokens alone."""
    return call(store, "head_skip_trigrams", run=run, from_layer=from_layer, at_head=at_head, k=k)


def composed_heads(store: Reader, run: str, k: int = 100) -> pl.DataFrame:
    """Pairs of heads of which the later reads what the earlier writes."""
    return call(store, "composed_heads", run=run, k=k)


def bigram_agreement(store: Reader, run: str) -> pl.DataFrame:
    """How well the direct path from embedding to unembedding knows the texts."""
    return call(store, "bigram_agreement", run=run)
