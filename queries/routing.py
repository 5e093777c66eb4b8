"""Routers, their choices, and paths through them: typed calls of the named queries."""

import polars as pl

from energylens.db.store import Reader
from energylens.queries.catalog import call


def routing_health(store: Reader, run: str) -> pl.DataFrame:
    """Load, concentration, information and energy correlation of each router."""
    return call(store, "routing_health", run=run)


def anchor_load(store: Reader, run: str, at_layer: int | None = None) -> pl.DataFrame:
    """The choices of the routers: shares, weights, energies, categories."""
    return call(store, "anchor_load", run=run, at_layer=at_layer)


def anchor_specialization(store: Reader, run: str) -> pl.DataFrame:
    """What first choices tell of category, part, token and energy."""
    return call(store, "anchor_specialization", run=run)


def routing_report(store: Reader, run: str) -> pl.DataFrame:
    """Every figure of the routers with its interval, its baseline and what it means."""
    return call(store, "routing_report", run=run)


def anchor_effects(store: Reader, run: str, at_layer: int | None = None) -> pl.DataFrame:
    """What leaving out each anchor does to energies; empty until measured."""
    return call(store, "anchor_effects", run=run, at_layer=at_layer)


def anchor_tokens(store: Reader, run: str, at_layer: int | None = None, k: int = 8) -> pl.DataFrame:
    """The tokens each anchor takes most beyond its share."""
    return call(store, "anchor_tokens", run=run, at_layer=at_layer, k=k)


def anchor_features(
    store: Reader, run: str, sae: str, at_layer: int | None = None, k: int = 50
) -> pl.DataFrame:
    """The features that go most with each choice."""
    return call(store, "anchor_features", run=run, sae=sae, at_layer=at_layer, k=k)


def feature_anchors(store: Reader, run: str, sae: str, feature: int) -> pl.DataFrame:
    """The choices among whose closest features one feature is."""
    return call(store, "feature_anchors", run=run, sae=sae, feature=feature)


def routing_paths(
    store: Reader, run: str, over_layers: int | None = None, k: int = 20
) -> pl.DataFrame:
    """Routing circuits, the furthest from shuffled layers first."""
    return call(store, "routing_paths", run=run, over_layers=over_layers, k=k)


def path_tokens(store: Reader, run: str, from_layer: int, of_choices: list[int]) -> pl.DataFrame:
    """Example tokens of a routing circuit, with the text around them."""
    return call(store, "path_tokens", run=run, from_layer=from_layer, of_choices=of_choices)
