"""Attribution graphs from their JSON: numbers taken apart, names that are shared, bad files."""

import json
from pathlib import Path
from typing import Any

import pytest

from energylens.errors import UsageError
from energylens.ingest.exchange.attribution_graphs import (
    graph_json,
    paired,
    parse_graph,
    read_graph,
    unpaired,
)
from tests.conftest import SHARED
from tests.graphs import colliding, content, link, small

REAL = sorted((SHARED / "reference_formats/graphs").glob("*.json"))


def changed(part: str, number: int | None = None, **fields: Any) -> bytes:
    """The small graph with fields of one part of it changed; Ellipsis takes one away."""
    made = small()
    place = made[part] if number is None else made[part][number]
    for name, value in fields.items():
        if value is ...:
            del place[name]
        else:
            place[name] = value
    return content(made)


def test_pairs_are_taken_apart_along_the_diagonals() -> None:
    walked = [(total - b, b) for total in range(60) for b in range(total + 1)]
    assert [unpaired(n) for n in range(len(walked))] == walked
    assert [paired(*both) for both in walked] == list(range(len(walked)))
    for both in ((25, 2**40), (0, 10**9), (3, 98_303)):
        assert unpaired(paired(*both)) == both


def test_nodes_have_types_layers_features_and_tokens() -> None:
    graph = parse_graph(content(small()))
    assert (graph.slug, graph.scan, graph.tokens) == (
        "small",
        "tiny-model",
        ["<bos>", " a", " cat"],
    )
    told = {n.node_id: (n.node_type, n.layer, n.pos, n.feature_id, n.token_id) for n in graph.nodes}
    assert told == {
        "E_0_0": ("embedding", -1, 0, None, 0),
        "E_11_1": ("embedding", -1, 1, None, 11),
        "E_12_2": ("embedding", -1, 2, None, 12),
        "0_3_1": ("feature", 0, 1, 3, None),
        "0_0_2": ("error", 0, 2, None, None),
        "1_5_2": ("feature", 1, 2, 5, None),
        "3_21_2": ("logit", 3, 2, None, 21),
        "3_22_2": ("logit", 3, 2, None, 22),
    }
    assert graph.supernodes == [["about cats", "1_5_2", "0_3_1"]]
    assert not graph.shared_ids


@pytest.mark.parametrize(
    ("kind", "node_type"),
    [
        ("cross layer transcoder", "feature"), ("transcoder", "feature"), ("lorsa", "feature"),
        ("lorsa error", "error"), ("mlp reconstruction error", "error"), ("bias", "other"),
    ],
)  # fmt: skip
def test_types_go_by_the_words_of_files(kind: str, node_type: str) -> None:
    graph = parse_graph(changed("nodes", 3, feature_type=kind))
    assert (graph.nodes[3].node_type, graph.nodes[3].feature_type) == (node_type, kind)
    assert (graph.nodes[3].feature_id == 3) == (node_type == "feature")


def test_layers_are_texts_or_numbers() -> None:
    made = small()
    for node in made["nodes"]:
        if node["layer"] != "E":
            node["layer"] = int(node["layer"])
    assert parse_graph(content(made)) == parse_graph(content(small()))


@pytest.mark.parametrize("layer", [None, -1, "-1"])
def test_an_error_without_a_layer_has_it_in_its_name(layer: object) -> None:
    for name, found in (("0_1_2", 1), ("err_1_2", 1), ("e", None)):
        graph = parse_graph(changed("nodes", 4, layer=layer, node_id=name))
        assert graph.nodes[4].layer == found


def test_names_that_several_nodes_go_by_are_found() -> None:
    graph = parse_graph(content(colliding()))
    assert graph.shared_ids == {"0_1_2"}
    both = [(n.node_type, n.layer) for n in graph.nodes if n.node_id == "0_1_2"]
    assert both == [("feature", 0), ("error", 1)]


@pytest.mark.parametrize("made", [small(), colliding()], ids=["small", "colliding"])
def test_what_is_written_is_what_was_read(made: dict[str, Any]) -> None:
    made["qk_only_nodes"] = [1, {"a": None}]
    made["nodes"][3]["qk_tracing_results"] = {"pair": [0.5, "x"]}
    graph = parse_graph(content(made))
    assert json.loads(graph_json(graph)) == made
    assert graph_json(parse_graph(graph_json(graph))) == graph_json(graph)


@pytest.mark.skipif(not REAL, reason="needs graphs beside the repository")
def test_real_graphs_are_read_and_written_whole() -> None:
    for path in REAL:
        graph, raw = read_graph(path), json.loads(path.read_bytes())
        assert json.loads(graph_json(graph)) == raw
        by_type = {kind: sum(n.node_type == kind for n in graph.nodes) for kind in
                   ("embedding", "feature", "error", "logit", "other")}  # fmt: skip
        kinds = [n["feature_type"] for n in raw["nodes"]]
        assert by_type["feature"] == kinds.count("cross layer transcoder") > 200
        assert by_type["error"] == kinds.count("mlp reconstruction error") > 70
        assert by_type["embedding"] == len(graph.tokens) and by_type["other"] == 0
        for node in graph.nodes:
            if node.node_type == "feature":
                assert node.node_id == f"{node.layer}_{node.feature_id}_{node.pos}"


BAD = {
    "not a number": (changed("links", 0, weight=float("nan")), "NaN or infinity"),
    "infinite": (changed("links", 0, weight=float("-inf")), "NaN or infinity"),
    "too large": (content(small()).replace(b"1.25", b"1e999"), "Number out of range"),
    "no weight": (changed("links", 0, weight=None), r"links\[0\].weight"),
    "a wrong pair": (changed("nodes", 3, feature=8), "pairs layer 1 with feature 2, while .* "
                     "layer 0, feature 3"),
    "another layer": (changed("nodes", 3, layer="1"), "pairs layer 0 with .* says layer 1"),
    "a negative feature": (changed("nodes", 3, feature=-1), "without the number of its feature"),
    "a huge feature": (changed("nodes", 3, feature=10**30), r"nodes\[3\].feature"),
    "no layer": (changed("nodes", 3, layer=None), r"None.*needs one from 0"),
    "a layer in words": (changed("nodes", 3, layer="top"), 'layer is "top"'),
    "a layer too far": (changed("nodes", 3, layer=10**40), "it needs one from 0"),
    "no place": (changed("nodes", 3, ctx_idx=-1), r"nodes\[3\].ctx_idx"),
    "no prompt": (changed("metadata", prompt=...), "missing required field `prompt`"),
    "no slug": (changed("metadata", slug=""), "slug of 0 characters"),
    "a long slug": (changed("metadata", slug="x" * 10**6), "slug of 1,000,000 characters"),
    "a nameless supernode": (changed("qParams", supernodes=[[]]), "supernode without a name"),
    "truncated": (content(small())[:900], "ends in the middle, after 900 bytes"),
    "empty": (b"", "ends in the middle"),
    "another JSON": (b"[1, 2]", "is no attribution graph"),
    "no JSON": (b"<html>", "is no JSON"),
    "no text": (b"{\"metadata\": \"\xff\"}", "is no JSON|no attribution graph"),
    "deep": (b"[" * 10**5, "no attribution graph|no JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_told_in_a_sentence(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(BAD[name][0])
    with pytest.raises(UsageError, match=BAD[name][1]) as error:
        read_graph(path)
    assert str(error.value).startswith(f"'{path}' ") and len(str(error.value)) < 600


def test_a_graph_without_nodes_is_refused() -> None:
    with pytest.raises(UsageError, match="has no nodes"):
        parse_graph(content(small() | {"nodes": []}))


@pytest.mark.parametrize(
    ("name", "start"), [("g.pt", b"PK\3\4"), ("g.json", b"PK\3\4"), ("g.json", b"\x80\x02}q")]
)
def test_pickles_are_refused_unread(name: str, start: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(start)
    with pytest.raises(UsageError, match=r"is a pickle.*create_graph_files"):
        read_graph(tmp_path / name)


def test_a_place_that_is_no_file_is_told(tmp_path: Path) -> None:
    for path, said in ((tmp_path, "is no file"), (tmp_path / "none", "No such file")):
        with pytest.raises(UsageError, match=said):
            read_graph(path)


def test_links_to_nowhere_are_read_as_they_are() -> None:
    made = small()
    made["links"].append(link("9_9_9", "0_3_1", 1.0))
    assert parse_graph(content(made)).links[-1].source == "9_9_9"
