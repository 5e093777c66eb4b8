"""An attribution of our own as a graph: its weights, its types, and its way into a store."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from energylens.errors import UsageError
from energylens.ingest.exchange.attribution_graphs import Graph, graph_json, parse_graph
from energylens.ingest.graphs import import_graphs
from energylens.ingest.on_request.attribute import attribute
from energylens.ingest.on_request.attribution_graph import attribution_graph
from energylens.ingest.on_request.reopen import Reopened, reopen
from energylens.ingest.progress import Progress
from energylens.lens.models import run_hooks
from energylens.protocol import AttributionRequest
from energylens.queries.catalog import open_catalog
from energylens.queries.graphs import graph_paths, traced_nodes

TEXT = "The cat sat on the"
STEP = 1e-2


@pytest.fixture(scope="module")
def reopened(store_path: Path) -> Reopened:
    with open_catalog(store_path) as opened:
        run_id = opened.runs[0].info.run_id
    return reopen(store_path, run_id)


@pytest.fixture(scope="module")
def graph(reopened: Reopened) -> Graph:
    return attribution_graph(reopened, AttributionRequest(TEXT, "resid"), "own")


def weights(graph: Graph, node_type: str) -> dict[str, float]:
    by_id = {link.source: link.weight for link in graph.links}
    return {n.node_id: by_id[n.node_id] for n in graph.nodes if n.node_type == node_type}


def test_effects_of_tokens_sum_to_those_that_attribute_tells(
    reopened: Reopened, graph: Graph
) -> None:
    told = attribute(reopened, AttributionRequest(TEXT, "resid", top=0), Progress())
    found: dict[int, float] = {}
    for node_id, weight in weights(graph, "feature").items():
        feature = int(node_id.split("_")[1])
        found[feature] = found.get(feature, 0.0) + weight
    expected = {one.feature_id: one.gradient for one in told.features}
    assert found.keys() == expected.keys() and len(found) > 5
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_a_little_more_of_a_node_moves_the_logit_as_its_link_says(
    reopened: Reopened, graph: Graph
) -> None:
    model, sae = reopened.model, reopened.sae("resid")
    ids = torch.tensor([[n.token_id for n in graph.nodes if n.node_type == "embedding"]])
    mask = torch.ones_like(ids)
    (logit,) = [n for n in graph.nodes if n.node_type == "logit"]
    stream = run_hooks(model, ids, mask, (sae.hook_name,))[1][sae.hook_name]
    with torch.no_grad():
        left_out = sae.prepare_target(stream) - sae.module(sae.prepare(stream))

    def moved(pos: int, by: Tensor) -> float:
        def more(value: Tensor, hook: Any) -> Tensor:
            value = value.clone()
            value[0, pos] += by
            return value

        with torch.no_grad():
            logits = model.bridge.run_with_hooks(
                ids, attention_mask=mask, fwd_hooks=[(sae.target_hook, more)]
            )[0, logit.pos]
        return float(logits[logit.token_id] - logits.mean())

    weight = {link.source: link.weight for link in graph.links}
    nodes = [n for n in graph.nodes if n.node_type in ("feature", "error")]
    nodes.sort(key=lambda n: -abs(weight[n.node_id]))
    errors = [n for n in nodes if n.node_type == "error"]
    earlier = [n for n in nodes if n.pos < logit.pos]
    for node in [*nodes[:5], *earlier[:5], *errors[:3]]:
        along = left_out[0, node.pos]
        if node.feature_id is not None and node.activation is not None:
            along = node.activation * sae.W_dec[node.feature_id]
        slope = moved(node.pos, STEP * along) - moved(node.pos, -STEP * along)
        assert weight[node.node_id] == pytest.approx(slope / (2 * STEP), rel=0.03, abs=2e-4)
    assert abs(weight[earlier[0].node_id]) > 2e-3, "not of the last token alone"


def test_nodes_say_honestly_what_they_are(reopened: Reopened, graph: Graph) -> None:
    kinds = {n.feature_type for n in graph.nodes}
    assert kinds == {"embedding", "sae", "sae reconstruction error", "logit"}
    assert not graph.shared_ids
    (logit,) = [n for n in graph.nodes if n.node_type == "logit"]
    assert logit.is_target_logit and 0 < (logit.token_prob or 0) < 1
    assert {link.target for link in graph.links} == {logit.node_id}
    ranked = sorted(
        (n for n in graph.nodes if n.influence is not None), key=lambda n: n.influence or 0
    )
    sizes = [abs(weights(graph, n.node_type)[n.node_id]) for n in ranked]
    assert sizes == sorted(sizes, reverse=True)
    np.testing.assert_allclose(
        [n.influence or 0.0 for n in ranked], np.cumsum(sizes) / sum(sizes), rtol=1e-9
    )
    assert "total effects" in graph.metadata and reopened.run.run_id in graph.metadata


def test_it_is_the_same_each_time_and_comes_back_joined(
    reopened: Reopened, graph: Graph, store_path: Path, tmp_path: Path
) -> None:
    again = attribution_graph(reopened, AttributionRequest(TEXT, "resid"), "own")
    assert graph_json(again) == graph_json(graph)
    assert parse_graph(graph_json(graph)) == graph
    store = Path(shutil.copytree(store_path, tmp_path / "x.lens"))
    (tmp_path / "own.json").write_bytes(graph_json(graph))
    done = import_graphs(store, [tmp_path / "own.json"], None, [], False, Progress())
    assert done.n_new == 1 and done.n_joined == done.n_features > 5
    with open_catalog(store) as opened:
        nodes = traced_nodes(opened, "own")
        assert set(nodes.filter(node_type="feature")["sae_id"]) == {"resid"}
        strongest = nodes.filter(node_type="feature").row(0, named=True)
        assert len(graph_paths(opened, "own", strongest["node_id"])) == 1


def test_a_graph_is_of_a_prediction(reopened: Reopened) -> None:
    asked = AttributionRequest(TEXT, "mlp", other_sae_id="resid", other_feature_id=1)
    with pytest.raises(UsageError, match="a graph ends in a logit"):
        attribution_graph(reopened, asked, "x")
