"""Queries over attribution graphs, beside what Python makes of the graphs' own JSON."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from energylens.db.store import Store
from energylens.errors import UnknownNameError
from energylens.ingest.graphs import import_graphs
from energylens.ingest.progress import Progress
from energylens.queries.catalog import open_catalog
from energylens.queries.graphs import (
    feature_graphs,
    graph_diff,
    graph_features,
    graph_list,
    graph_paths,
    graphs_in_text,
    node_links,
    traced_nodes,
)
from tests.graphs import colliding, feature, random_graph, small, write

GRAPHS = {
    "small": small(),
    "colliding": colliding(),
    "chance": random_graph("chance", 40, 200),
    "other": random_graph("other", 40, 200, seed=1),
}


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store of graphs and of no run."""
    folder = tmp_path_factory.mktemp("graphs")
    done = import_graphs(
        folder / "x.lens", write(folder, *GRAPHS.values()), None, [], False, Progress()
    )
    assert done.n_new == len(GRAPHS)
    with open_catalog(folder / "x.lens") as opened:
        yield opened


def features_of(graph: dict[str, Any]) -> dict[tuple[int, int], list[int]]:
    """The places of each feature of a graph."""
    found = defaultdict(list)
    for node in graph["nodes"]:
        if node["feature_type"] == "cross layer transcoder":
            layer, number, pos = map(int, node["node_id"].split("_"))
            found[layer, number].append(pos)
    return {key: sorted(set(places)) for key, places in found.items()}


def shares(graph: dict[str, Any]) -> dict[tuple[str, str], tuple[float, float]]:
    """The part of its target's input that each link is, and its weight."""
    total: dict[str, float] = defaultdict(float)
    for link in graph["links"]:
        total[link["target"]] += abs(link["weight"])
    return {
        (x["source"], x["target"]): (abs(x["weight"]) / total[x["target"]], x["weight"])
        for x in graph["links"]
    }


def walked(graph: dict[str, Any], start: str, end: str) -> list[tuple[float, int, list[str]]]:
    """Every path, by trying all."""
    links, found = shares(graph), []
    follows = defaultdict(list)
    for source, target in links:
        follows[source].append(target)

    def go(path: list[str], part: float, sign: int) -> None:
        if path[-1] == end:
            found.append((part, sign, path))
        for target in follows[path[-1]]:
            step, weight = links[path[-1], target]
            go([*path, target], part * step, sign * (1 if weight > 0 else -1))

    go([start], 1.0, 1)
    return sorted(found, key=lambda one: -one[0])


@pytest.mark.parametrize("name", ["small", "chance", "other"])
def test_paths_are_the_strongest_of_all_there_are(several: Store, name: str) -> None:
    graph = GRAPHS[name]
    tokens = [n["node_id"] for n in graph["nodes"] if n["feature_type"] == "embedding"]
    logits = [n["node_id"] for n in graph["nodes"] if n["feature_type"] == "logit"]
    compared = 0
    for token in tokens:
        for logit in logits:
            expected = [p for p in walked(graph, token, logit) if p[0] >= 1e-4][:7]
            found = graph_paths(several, name, token, logit, k=7)
            assert found["node_ids"].to_list() == [path for _, _, path in expected]
            assert found["sign"].to_list() == [sign for _, sign, _ in expected]
            assert found["part"].to_list() == pytest.approx([part for part, _, _ in expected])
            assert found["rank"].to_list() == list(range(len(expected)))
            compared += len(expected)
        default = graph_paths(several, name, token, k=7)
        assert default.equals(graph_paths(several, name, token, logits[0], k=7))
    assert compared > 5


def test_paths_below_a_part_are_not_followed(several: Store) -> None:
    found = graph_paths(several, "small", "E_11_1", min_part=0.05, k=100)
    every = [path for part, _, path in walked(GRAPHS["small"], "E_11_1", "3_21_2") if part >= 0.05]
    assert found["node_ids"].to_list() == every and len(every) == 2


def test_ambiguous_links_are_in_no_path(several: Store) -> None:
    assert (
        not graph_paths(several, "colliding", "E_12_2", k=100)["node_ids"]
        .explode()
        .is_in(["0_1_2"])
        .any()
    )
    found = graph_paths(several, "colliding", "E_12_2", k=100)
    assert found.equals(graph_paths(several, "small", "E_12_2", k=100))


def test_features_over_all_graphs(several: Store) -> None:
    counted: dict[tuple[int, int], list[str]] = defaultdict(list)
    for name, graph in GRAPHS.items():
        for key in features_of(graph):
            counted[key].append(name)
    found = graph_features(several, k=1000)
    assert {
        (a, b): n for a, b, n in found.select("layer", "feature_id", "n_graphs").iter_rows()
    } == {key: len(names) for key, names in counted.items()}
    assert found["n_graphs"].is_sorted(descending=True) and found["n_graphs"][0] >= 3
    (row,) = found.filter(layer=0, feature_id=3).iter_rows(named=True)
    assert row["prompts"] == sorted({GRAPHS[n]["metadata"]["prompt"] for n in counted[0, 3]})
    total = sum(
        traced_nodes(several, name).filter(layer=0, feature_id=3)["share"].sum() for name in GRAPHS
    )
    assert row["total_share"] == pytest.approx(total)
    assert graph_features(several, 2, 1000).height == sum(len(n) > 1 for n in counted.values())


def test_what_two_graphs_share(several: Store) -> None:
    one, other = features_of(GRAPHS["chance"]), features_of(GRAPHS["other"])
    found = graph_diff(several, "chance", "other", k=10_000)
    told = {(row["layer"], row["feature_id"]): row for row in found.iter_rows(named=True)}
    assert told.keys() == one.keys() | other.keys()
    kinds = {"both": one.keys() & other.keys(), "first": one.keys() - other.keys(),
             "second": other.keys() - one.keys()}  # fmt: skip
    for kind, keys in kinds.items():
        assert keys and {key for key, row in told.items() if row["found_in"] == kind} == keys
    for key, row in told.items():
        assert (row["places_first"], row["places_second"]) == (one.get(key), other.get(key))
    assert found["found_in"].is_sorted()
    mirrored = graph_diff(several, "other", "chance", k=10_000)
    assert mirrored.filter(found_in="both").height == len(kinds["both"])


def test_graphs_of_other_models_are_not_compared(several: Store, tmp_path: Path) -> None:
    made = small()
    foreign = small("foreign")
    foreign["metadata"]["scan"] = "other-model"
    import_graphs(tmp_path / "x.lens", write(tmp_path, made, foreign), None, [], False, Progress())
    with (
        open_catalog(tmp_path / "x.lens") as opened,
        pytest.raises(UnknownNameError, match=r"of other-model with .* and of tiny-model"),
    ):
        graph_diff(opened, "small", "foreign")


def test_links_of_a_node(several: Store) -> None:
    found = node_links(several, "small", "1_5_2")
    rows = found.select("direction", "node_id", "weight", "node_type").rows()
    assert rows == [
        ("in", "0_3_1", 1.25, "feature"), ("in", "E_12_2", 0.75, "embedding"),
        ("in", "0_0_2", -0.25, "error"), ("out", "3_21_2", 3.0, "logit"),
        ("out", "3_22_2", -0.5, "logit"),
    ]  # fmt: skip
    parts = shares(GRAPHS["small"])
    assert found.filter(direction="in")["part"].to_list() == [
        parts[source, "1_5_2"][0] for source in ("0_3_1", "E_12_2", "0_0_2")
    ]
    assert node_links(several, "small", "1_5_2", k=1)["node_id"].to_list() == ["0_3_1", "3_21_2"]
    shared = node_links(several, "colliding", "0_1_2")
    assert shared["is_ambiguous"].all() and shared["node_id"].to_list() == ["E_12_2", "3_21_2"]


def test_nodes_tell_tokens_labels_and_groups(rich: Store) -> None:
    rows = {row["node_id"]: row for row in traced_nodes(rich, "small").iter_rows(named=True)}
    assert len(rows) == 8
    low = rows["0_3_1"]
    assert (low["token"], low["label"], low["sae_id"]) == (" a", "even numbers", "one")
    assert low["supernodes"] == ["about cats"] and rows["E_0_0"]["supernodes"] is None
    assert rows["1_5_2"]["label"] in ("cats", *_described(rich, "two", 5))
    correlation = rich.cursor().execute(
        "SELECT efas FROM efas WHERE sae_id = 'one' AND feature_id = 3 AND variant = 'energy'"
    )
    assert (low["energy_correlation"],) == correlation.fetchall()[0]


def _described(store: Store, sae: str, number: int) -> list[str]:
    found = store.cursor().execute(
        "SELECT description FROM explanations WHERE is_label AND sae_id = $sae AND feature_id = $n",
        {"sae": sae, "n": number},
    )
    return [text for (text,) in found.fetchall()]


def test_the_list_tells_what_each_graph_is_about(several: Store, rich: Store) -> None:
    rows = {row["graph_id"]: row for row in graph_list(several).iter_rows(named=True)}
    assert list(rows) == sorted(GRAPHS)
    assert (rows["small"]["logit"], rows["small"]["token_prob"]) == ('Output "21" (p=0.600)', 0.6)
    assert (rows["small"]["n_supernodes"], rows["chance"]["n_supernodes"]) == (1, 0)
    assert (rows["colliding"]["n_ambiguous"], rows["small"]["n_joined"]) == (2, 0)
    joined = {row["graph_id"]: row["n_joined"] for row in graph_list(rich).iter_rows(named=True)}
    assert (joined["small"], joined["chance"]) == (2, 40)


def test_graphs_whose_features_fire_in_a_text(rich: Store, rich_run: str) -> None:
    frame = pl.DataFrame(rich.cursor().sql(
        "SELECT DISTINCT sae_id, feature_id FROM codes JOIN tokens USING (run_id, token_index) "
        "JOIN contexts USING (run_id, context_id) WHERE text_id = 4 AND NOT is_masked"
    ).to_arrow_table())  # fmt: skip
    active = set(frame.iter_rows())
    expected = {}
    for name in ("small", "colliding", "chance"):
        nodes = traced_nodes(rich, name).filter(node_type="feature")
        keys = set(nodes.select("sae_id", "feature_id").iter_rows())
        on = [(s, f) in active for s, f in nodes.select("sae_id", "feature_id").iter_rows()]
        if keys & active:
            share = nodes.filter(pl.Series(on))["share"].sum()
            expected[name] = (len(keys), len(keys & active), pytest.approx(share))
    found = graphs_in_text(rich, rich_run, 4)
    told = found.select("graph_id", "n_joined", "n_active", "active_share").rows()
    assert {name: tuple(rest) for name, *rest in told} == expected and expected
    assert found["active_share"].is_sorted(descending=True)


def test_graphs_of_a_feature(rich: Store, rich_run: str) -> None:
    found = feature_graphs(rich, rich_run, "one", 3)
    assert set(found["graph_id"]) >= {"small", "colliding"}
    assert found.filter(graph_id="small").select("node_id", "pos", "token").rows() == [
        ("0_3_1", 1, " a")
    ]
    assert feature(0, 3, 1)["node_id"] == "0_3_1"


def test_a_store_without_graphs_says_how_to_take_some_in(store: Store) -> None:
    assert graph_list(store).is_empty()
    with pytest.raises(UnknownNameError, match="import graph"):
        traced_nodes(store, "small")
