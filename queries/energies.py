"""Energies of texts, layers and categories: typed calls of the named queries."""

from typing import Unpack

import polars as pl

from energylens.db.store import Reader
from energylens.queries.catalog import call
from energylens.queries.masks import WithMasked


def text_energies(
    store: Reader, run: str, in_text: int, at_layer: int | None = None
) -> pl.DataFrame:
    """The tokens of one text with their energies, at the output or under the lens at a layer."""
    return call(store, "text_energies", run=run, in_text=in_text, at_layer=at_layer)


def energy_by_layer(store: Reader, run: str, **shown: Unpack[WithMasked]) -> pl.DataFrame:
    """Mean energy and entropy after each layer, by category and over all (is_all)."""
    return call(store, "energy_by_layer", run=run, **shown)


def drop_by_category(store: Reader, run: str, **shown: Unpack[WithMasked]) -> pl.DataFrame:
    """What the blocks after each layer are worth, by category and over all (is_all)."""
    return call(store, "drop_by_category", run=run, **shown)


def category_summary(store: Reader, run: str, **shown: Unpack[WithMasked]) -> pl.DataFrame:
    """How many texts a category has, how long they are, and how hard for the model."""
    return call(store, "category_summary", run=run, **shown)


def text_behaviour(
    store: Reader,
    run: str,
    in_category: str | None = None,
    k: int = 1000,
    **shown: Unpack[WithMasked],
) -> pl.DataFrame:
    """How the model does on each text, the hardest first."""
    return call(store, "text_behaviour", run=run, in_category=in_category, **shown, k=k)


def energy_trajectory(store: Reader, run: str, in_text: int) -> pl.DataFrame:
    """Energies of a text by token and layer."""
    return call(store, "energy_trajectory", run=run, in_text=in_text)


def settling_layers(store: Reader, run: str, in_text: int) -> pl.DataFrame:
    """Where the lens's likeliest next token settles, token by token."""
    return call(store, "settling_layers", run=run, in_text=in_text)


def settling_summary(store: Reader, run: str) -> pl.DataFrame:
    """At which layers tokens settle, by category and over all (is_all)."""
    return call(store, "settling_summary", run=run)


def barrier_tokens(
    store: Reader, run: str, in_category: str | None = None, min_z: float = 2.0, k: int = 20
) -> pl.DataFrame:
    """Tokens whose energy stands out of their context."""
    return call(store, "barrier_tokens", run=run, in_category=in_category, min_z=min_z, k=k)
