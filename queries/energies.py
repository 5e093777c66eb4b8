"""Energies of texts, layers and categories: typed calls of the named queries."""

import polars as pl

from db.store import Reader
from queries.catalog import call


def text_energies(
    store: Reader, run: str, in_text: int, at_layer: int | None = None
) -> pl.DataFrame:
    """The tokens of one text with their energies, at the output or under the lens at a layer."""
    return call(store, "text_energies", run=run, in_text=in_text, at_layer=at_layer)


def energy_by_layer(store: Reader, run: str, with_masked: bool = False) -> pl.DataFrame:
    """Mean energy and entropy after each layer, by category and over all (category None)."""
    return call(store, "energy_by_layer", run=run, with_masked=with_masked)


def category_summary(store: Reader, run: str, with_masked: bool = False) -> pl.DataFrame:
    """How many texts a category has, how long they are, and how hard for the model."""
    return call(store, "category_summary", run=run, with_masked=with_masked)
