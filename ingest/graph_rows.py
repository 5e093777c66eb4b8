"""The rows that an attribution graph is in the store, with what follows from its links."""

import json
from hashlib import sha256
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from energylens.db.graph_files import Rows
from energylens.db.graphs import GRAPH_LINKS, GRAPH_NODES, GRAPH_SUPERNODES, GRAPHS
from energylens.db.table import Table
from energylens.ingest.exchange.attribution_graphs import (
    Graph,
    Link,
    Node,
    View,
    graph_json,
)
from energylens.ingest.graph_joins import Joined, Made
from energylens.stats.influence import link_shares, node_shares

_NOWHERE, _SHARED = -1, -2
"""Stand for the number of a node where no node has its id, and where several have."""


def graph_rows(graph: Graph, made: Made, joined: Joined, sum_of: str) -> Rows:
    """All rows of a graph, of which `joined` tells where its layers are joined to, and `sum_of` is
    the `digest`."""
    n = len(graph.nodes)
    shared = graph.shared_ids
    number = {node.node_id: at for at, node in enumerate(graph.nodes)} | dict.fromkeys(
        shared, _SHARED
    )
    ids = [link.source for link in graph.links], [link.target for link in graph.links]
    ends = [np.array([number.get(one, _NOWHERE) for one in side], np.int64) for side in ids]
    weight = np.array([link.weight for link in graph.links], np.float64)
    known = (ends[0] >= 0) & (ends[1] >= 0)
    source, target = ends[0][known], ends[1][known]
    share = np.full(len(weight), np.nan)
    share[known] = link_shares(target, weight[known], n)
    shares = node_shares(source, target, share[known], _logits(graph))
    is_ambiguous = (ends[0] == _SHARED) | (ends[1] == _SHARED)
    is_nowhere = (ends[0] == _NOWHERE) | (ends[1] == _NOWHERE)
    links = {
        "source_id": pa.array(ids[0], pa.string()),
        "target_id": pa.array(ids[1], pa.string()),
        "source": pa.array(ends[0], mask=ends[0] < 0),
        "target": pa.array(ends[1], mask=ends[1] < 0),
        "weight": pa.array(weight),
        "share": pa.array(share, mask=~known),
        "is_ambiguous": pa.array(is_ambiguous),
        "is_nowhere": pa.array(is_nowhere),
    }
    counts = {"n_ambiguous": int(is_ambiguous.sum()), "n_nowhere": int(is_nowhere.sum())}
    return {
        GRAPHS.name: _graph(
            graph, made, shares, counts | {"joined": joined_text(joined), "sha256": sum_of}
        ),
        GRAPH_NODES.name: _numbered(GRAPH_NODES, graph, _nodes(graph, joined, shared, shares)),
        GRAPH_LINKS.name: _numbered(GRAPH_LINKS, graph, links),
        GRAPH_SUPERNODES.name: _supernodes(graph),
    }


def digest(graph: Graph) -> str:
    """What tells a graph's content from any other."""
    return sha256(graph_json(graph)).hexdigest()


def joined_text(joined: Joined) -> str | None:
    """Where layers are joined to, as the table `graphs` has it."""
    if not joined:
        return None
    return json.dumps({str(n): [run, sae.sae_id] for n, (run, sae) in sorted(joined.items())})


def _logits(graph: Graph) -> np.ndarray:
    """float64 [nodes]: what each logit weighs, all together 1; equal parts where the file tells no
    probabilities."""
    is_logit = np.array([node.node_type == "logit" for node in graph.nodes], np.float64)
    prob = is_logit * np.array([max(node.token_prob or 0.0, 0.0) for node in graph.nodes])
    weight = prob if prob.sum() > 0 else is_logit
    return weight / max(weight.sum(), np.finfo(float).tiny)


def _graph(graph: Graph, made: Made, shares: np.ndarray | None, known: dict[str, Any]) -> pa.Table:
    types = np.array([node.node_type for node in graph.nodes])
    error_share = None
    if shares is not None:
        errors, tokens = (float(shares[types == t].sum()) for t in ("error", "embedding"))
        error_share = errors / (errors + tokens) if errors + tokens else None
    row = {
        "graph_id": graph.slug,
        "scan": graph.scan,
        "source_set": made.source_set,
        "prompt": graph.prompt,
        "tokens": graph.tokens,
        "generator": made.generator,
        "created": made.created,
        "n_nodes": len(graph.nodes),
        "n_features": int((types == "feature").sum()),
        "n_links": len(graph.links),
        "error_share": error_share,
        "metadata": graph.metadata,
        "view": graph.view,
        "more": graph.more,
        **known,
    }
    return pa.Table.from_pylist([row], schema=GRAPHS.arrow)


def _nodes(
    graph: Graph, joined: Joined, shared: set[str], shares: np.ndarray | None
) -> dict[str, Any]:
    same = [c.name for c in GRAPH_NODES.columns if c.name in graph.nodes[0].__struct_fields__]
    columns: dict[str, Any] = {name: [getattr(n, name) for n in graph.nodes] for name in same}
    where = [
        joined.get(node.layer) if node.feature_id is not None and node.layer is not None else None
        for node in graph.nodes
    ]
    return columns | {
        "share": [None] * len(where) if shares is None else shares,
        "is_ambiguous": [node.node_id in shared for node in graph.nodes],
        "run_id": [run and run[0] for run in where],
        "sae_id": [run and run[1].sae_id for run in where],
    }


def _supernodes(graph: Graph) -> pa.Table:
    rows = [
        {"graph_id": graph.slug, "number": n, "rank": rank, "name": name, "node_id": node_id}
        for n, (name, *ids) in enumerate(graph.supernodes)
        for rank, node_id in enumerate(ids or [None])
    ]
    return pa.Table.from_pylist(rows, schema=GRAPH_SUPERNODES.arrow)


def _numbered(table: Table, graph: Graph, columns: dict[str, Any]) -> pa.Table:
    """Columns of a graph's table, the graph and the row's place before them."""
    n = len(next(iter(columns.values())))
    columns = {"graph_id": [graph.slug] * n, "number": np.arange(n, dtype=np.int32)} | columns
    return pa.table({name: columns[name] for name in table.arrow.names}).cast(table.arrow)


def graph_of(rows: Rows) -> Graph:
    """The graph that rows are of: what `graph_rows` was given."""
    (about,) = rows[GRAPHS.name].to_pylist()
    nodes = rows[GRAPH_NODES.name].sort_by("number").to_pylist()
    links = rows[GRAPH_LINKS.name].sort_by("number").to_pylist()
    kept = Node.__struct_fields__
    return Graph(
        slug=about["graph_id"],
        scan=about["scan"],
        prompt=about["prompt"],
        tokens=about["tokens"],
        nodes=[Node(**{name: node[name] for name in kept}) for node in nodes],
        links=[Link(link["source_id"], link["target_id"], link["weight"]) for link in links],
        supernodes=msgspec.json.decode(about["view"], type=View).supernodes,
        metadata=about["metadata"],
        view=about["view"],
        more=about["more"],
    )
