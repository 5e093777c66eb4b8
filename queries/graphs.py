"""Attribution graphs: their nodes, links and paths, and what several of them share: typed calls of
the named queries."""

import polars as pl

from energylens.db.store import Reader
from energylens.queries.catalog import call
from energylens.queries.scope import looked_up


def pick_graph(store: Reader, given: str) -> str:
    """A graph by its name or the beginning of it.

    Raises:
        UnknownNameError: none or several can be meant.
    """
    return str(looked_up(store, {"graph": True}, {"graph": given})["graph"])


def graph_list(store: Reader, k: int = 10000) -> pl.DataFrame:
    """The graphs of the store, by their names; empty until some are taken in."""
    return call(store, "graph_list", k=k)


def graph_features(store: Reader, min_graphs: int = 1, k: int = 100) -> pl.DataFrame:
    """The features of all graphs, those in most graphs first."""
    return call(store, "graph_features", min_graphs=min_graphs, k=k)


def traced_nodes(store: Reader, graph: str, k: int = 100000) -> pl.DataFrame:
    """The nodes of a graph, those that most comes through first."""
    return call(store, "traced_nodes", graph=graph, k=k)


def node_links(store: Reader, graph: str, at_node: str, k: int = 100) -> pl.DataFrame:
    """The links into and out of a node, each by weight."""
    return call(store, "node_links", graph=graph, at_node=at_node, k=k)


def graph_paths(
    store: Reader,
    graph: str,
    from_node: str,
    to_node: str | None = None,
    min_part: float = 0.0001,
    k: int = 10,
) -> pl.DataFrame:
    """The strongest paths from a node to another; to_node None is the logit the graph was traced
    for."""
    return call(
        store, "graph_paths", graph=graph, from_node=from_node, to_node=to_node,
        min_part=min_part, k=k,
    )  # fmt: skip


def graph_diff(store: Reader, graph: str, other_graph: str, k: int = 1000) -> pl.DataFrame:
    """What two graphs of one model and its dictionaries share and do not, feature by feature."""
    return call(store, "graph_diff", graph=graph, other_graph=other_graph, k=k)


def graphs_in_text(store: Reader, run: str, in_text: int, k: int = 20) -> pl.DataFrame:
    """The graphs whose features fire in a text."""
    return call(store, "graphs_in_text", run=run, in_text=in_text, k=k)


def feature_graphs(store: Reader, run: str, sae: str, feature: int, k: int = 100) -> pl.DataFrame:
    """Where a feature stands in graphs that are joined to its run."""
    return call(store, "feature_graphs", run=run, sae=sae, feature=feature, k=k)
