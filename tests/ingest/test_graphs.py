"""Attribution graphs in a store: what is taken, joined, refused, kept, merged and verified."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from energylens.db.graph_files import claim_graphs, graph_rows, merge_graphs, stored_graphs
from energylens.db.index_files import entries_of
from energylens.db.layout import StoreLayout
from energylens.db.merge import merge_stores
from energylens.db.provenance import read_run
from energylens.db.store import Store
from energylens.db.verify import verify_store
from energylens.errors import StoreBusyError, StoreError, UsageError
from energylens.ingest import graphs as taking
from energylens.ingest.exchange.attribution_graphs import parse_graph
from energylens.ingest.graph_joins import Joins, joins_given, made_of
from energylens.ingest.graphs import TakenGraphs, export_graph, import_graphs
from energylens.ingest.progress import Progress
from energylens.queries.catalog import open_catalog
from tests.conftest import SHARED
from tests.graphs import colliding, content, link, node, random_graph, small, write

REAL = SHARED / "reference_formats/graphs"


def take(store: Path, files: list[Path], *saes: str, run: str | None = None,
         replace: bool = False) -> TakenGraphs:  # fmt: skip
    return import_graphs(store, files, run, saes, replace, Progress())


def rows(store: Path, sql: str) -> list[tuple[Any, ...]]:
    with open_catalog(store) as opened:
        return opened.cursor().execute(sql).fetchall()


def files(store: Path) -> dict[str, bytes]:
    return {str(f.relative_to(store)): f.read_bytes() for f in store.rglob("*.*") if f.is_file()}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A new store with two graphs."""
    done = take(tmp_path / "x.lens", write(tmp_path, small(), colliding()))
    assert (done.n_new, done.n_there, done.n_nodes, done.n_links) == (2, 0, 18, 20)
    return tmp_path / "x.lens"


def test_tables_hold_what_the_file_does(made: Path) -> None:
    raw = small()
    found = rows(made, "SELECT node_id, node_type, layer, pos, feature_id, label FROM graph_nodes "
                 "WHERE graph_id = 'small' ORDER BY number")  # fmt: skip
    assert [row[0] for row in found] == [n["node_id"] for n in raw["nodes"]]
    assert found[5] == ("1_5_2", "feature", 1, 2, 5, "cats")
    links = rows(made, "SELECT source_id, target_id, weight, source, target FROM graph_links "
                 "WHERE graph_id = 'small' ORDER BY number")  # fmt: skip
    assert [row[:3] for row in links] == [tuple(one.values()) for one in raw["links"]]
    number = {n["node_id"]: at for at, n in enumerate(raw["nodes"])}
    assert [row[3:] for row in links] == [(number[a], number[b]) for a, b, *_ in links]
    groups = "SELECT name, rank, node_id FROM graph_supernodes WHERE graph_id = 'small' ORDER BY 2"
    assert rows(made, groups) == [("about cats", 0, "1_5_2"), ("about cats", 1, "0_3_1")]
    (graph,) = rows(made, "SELECT scan, prompt, tokens, source_set, generator, created, n_features "
                    "FROM graphs WHERE graph_id = 'small'")  # fmt: skip
    assert graph == ("tiny-model", "<bos> a cat", ["<bos>", " a", " cat"], "someone/tiny-set",
                     "circuit-tracer 0.2.0", "2025-10-26T15:34:11.011000+00:00", 2)  # fmt: skip
    assert verify_store(made) == []


def test_shares_follow_links_back_from_the_logits(made: Path) -> None:
    found = dict(rows(made, "SELECT node_id, share FROM graph_nodes WHERE graph_id = 'small'"))
    high = 0.75 * 0.75 + 0.25 * 0.5 / 1.5  # of either logit, the first being three times likelier
    low = 0.75 * 0.25 + high * 1.25 / 2.25
    expected = {
        "3_21_2": 0.75, "3_22_2": 0.25, "1_5_2": high, "0_3_1": low, "0_0_2": high * 0.25 / 2.25,
        "E_12_2": 0.25 / 1.5 + high * 0.75 / 2.25, "E_11_1": low * 0.8, "E_0_0": low * 0.2,
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for name, share in expected.items():
        assert np.isclose(found[name], share), name
    ((error,),) = rows(made, "SELECT error_share FROM graphs WHERE graph_id = 'small'")
    assert np.isclose(error, expected["0_0_2"])


def test_links_of_shared_names_are_marked_and_in_no_share(made: Path) -> None:
    found = rows(made, "SELECT source_id, target_id, source, target, share FROM graph_links "
                 "WHERE graph_id = 'colliding' AND is_ambiguous ORDER BY number")  # fmt: skip
    assert found == [("E_12_2", "0_1_2", 2, None, None), ("0_1_2", "3_21_2", None, 6, None)]
    marked = "SELECT node_type, share FROM graph_nodes WHERE is_ambiguous ORDER BY number"
    assert rows(made, marked) == [("feature", 0.0), ("error", 0.0)]
    same = "SELECT share FROM graph_nodes WHERE graph_id = '{}' AND number < 8 ORDER BY number"
    assert rows(made, same.format("colliding")) == rows(made, same.format("small"))
    counts = "SELECT n_ambiguous, n_nowhere FROM graphs ORDER BY graph_id"
    assert rows(made, counts) == [(2, 0), (0, 0)]


def test_links_to_nowhere_are_kept_and_told(tmp_path: Path) -> None:
    raw = small()
    raw["links"].append(link("9_9_9", "0_3_1", 1.0))
    done = take(tmp_path / "x.lens", write(tmp_path, raw))
    assert "0 name an id that several nodes have, and 1 one that none has" in done.remarks[0]
    found = rows(tmp_path / "x.lens", "SELECT source_id, source, share FROM graph_links "
                 "WHERE is_nowhere")  # fmt: skip
    assert found == [("9_9_9", None, None)]
    assert verify_store(tmp_path / "x.lens") == []


def test_taken_again_nothing_changes(made: Path, tmp_path: Path) -> None:
    before = files(made)
    done = take(made, write(tmp_path, small(), colliding()))
    assert (done.n_new, done.n_there) == (0, 2) and files(made) == before
    ours = take(made, write(tmp_path, small("third")))
    assert (ours.n_new, ours.n_there) == (1, 0)
    kept = {name for name in files(made) if name.startswith("graphs/")} & before.keys()
    assert len(kept - {"graphs/manifest.json"}) == 4


def test_another_graph_of_a_slug_is_refused_or_replaces(made: Path, tmp_path: Path) -> None:
    other = write(tmp_path, small(extra=6))
    before = files(made)
    done = take(made, other)
    assert done.n_new == 0 and "--replace" in done.refused[0] and files(made) == before
    done = take(made, other, replace=True)
    assert (done.n_replaced, done.n_new, done.refused) == (1, 0, [])
    numbers = "SELECT feature_id FROM graph_nodes WHERE layer = 1 AND node_type = 'feature'"
    assert rows(made, f"{numbers} AND graph_id = 'small'") == [(6,)]
    assert rows(made, f"{numbers} AND graph_id = 'colliding'") == [(5,)]
    assert verify_store(made) == []


def test_two_files_of_one_slug_in_one_go(tmp_path: Path) -> None:
    done = take(tmp_path / "x.lens", write(tmp_path, small(), small(), small(extra=7)))
    assert (done.n_new, done.n_there, len(done.refused)) == (1, 1, 1)


def test_a_bad_file_keeps_no_other_from_being_taken(tmp_path: Path) -> None:
    (tmp_path / "below/more").mkdir(parents=True)
    write(tmp_path / "below", small())
    write(tmp_path / "below/more", small("other"))
    (tmp_path / "below/more/bad.json").write_text("{")
    (tmp_path / "below/more/graph.pt").write_bytes(b"PK")
    (tmp_path / "below/graph-metadata.json").write_text('{"graphs": []}')
    done = take(tmp_path / "x.lens", [tmp_path / "below"])
    assert done.n_new == 2 and len(done.refused) == 2
    assert "bad.json' ends in the middle" in done.refused[0] and "pickle" in done.refused[1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="has no file"):
        take(tmp_path / "x.lens", [tmp_path / "empty"])


@pytest.mark.parametrize(
    "slug", ["../../up", "/etc/x", "a\0b", "\x1b[31mred", "x" * 500, "é*?[", "."]
)
def test_slugs_are_texts_and_no_places(slug: str, tmp_path: Path) -> None:
    store = tmp_path / "in/x.lens"
    store.parent.mkdir()
    take(store, write(tmp_path, small(slug)))
    assert rows(store, "SELECT graph_id FROM graphs") == [(slug,)]
    assert {f.name for f in tmp_path.iterdir()} == {"in", "0.json"}
    assert verify_store(store) == []


def test_many_links_are_put_in_some_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "_MOST_LINKS", 18)
    take(tmp_path / "x.lens", write(tmp_path, *(small(str(n)) for n in range(5))))
    graphs = [e for e in entries_of(tmp_path / "x.lens/graphs").values() if e.table == "graphs"]
    assert sorted(entry.rows for entry in graphs) == [1, 2, 2]
    assert verify_store(tmp_path / "x.lens") == []


def test_what_was_put_in_before_a_stop_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taking, "_MOST_LINKS", 9)
    real, left = taking.read_graph, [2]

    def stopped(path: Path) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(path)

    some = write(tmp_path, *(small(str(n)) for n in range(4)))
    monkeypatch.setattr(taking, "read_graph", stopped)
    with pytest.raises(KeyboardInterrupt):
        take(tmp_path / "x.lens", some)
    monkeypatch.setattr(taking, "read_graph", real)
    assert take(tmp_path / "x.lens", some).n_there == 2
    assert len(stored_graphs(StoreLayout(tmp_path / "x.lens"))) == 4


def test_circles_and_graphs_without_links(tmp_path: Path) -> None:
    ring = small("ring")
    ring["links"] = [link("1_5_2", "0_3_1", 1.0), link("0_3_1", "1_5_2", 1.0),
                     link("1_5_2", "3_21_2", 1.0)]  # fmt: skip
    take(tmp_path / "x.lens", write(tmp_path, ring, small("bare") | {"links": []}))
    found = rows(tmp_path / "x.lens", "SELECT graph_id, error_share FROM graphs ORDER BY 1")
    assert found == [("bare", None), ("ring", None)]
    shares = "SELECT count(share) FROM graph_nodes WHERE graph_id = 'ring'"
    assert rows(tmp_path / "x.lens", shares) == [(0,)]


def test_one_at_a_time_takes_graphs_in(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("energylens.db.graph_files.PATIENCE", 0.0)
    with (
        claim_graphs(StoreLayout(made)),
        pytest.raises(StoreBusyError, match="graphs of"),
        claim_graphs(StoreLayout(made)),
    ):
        pass


def test_stores_are_merged(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.lens"
    take(other, write(tmp_path, small(), random_graph("chance", 10, 20)))
    assert merge_stores(made, [other]) == {}
    assert set(stored_graphs(StoreLayout(made))) == {"small", "colliding", "chance"}
    assert verify_store(made) == []
    before = files(made)
    merge_stores(made, [other])
    assert files(made) == before
    take(other, write(tmp_path, small(extra=9)), replace=True)
    with pytest.raises(StoreError, match="different graphs called 'small'"):
        merge_graphs(StoreLayout(other), StoreLayout(made))


def test_rows_of_one_graph(made: Path) -> None:
    found = graph_rows(StoreLayout(made), "small")
    assert found is not None
    assert {name: table.num_rows for name, table in found.items()} == {
        "graphs": 1, "graph_nodes": 8, "graph_links": 9, "graph_supernodes": 2,
    }  # fmt: skip
    assert graph_rows(StoreLayout(made), "none") is None


@pytest.mark.parametrize("name", ["small", "colliding"])
def test_a_graph_is_written_as_it_came(made: Path, tmp_path: Path, name: str) -> None:
    assert export_graph(made, name[:4], tmp_path / "one.json") == name
    export_graph(made, name, tmp_path / "two.json")
    written = (tmp_path / "one.json").read_bytes()
    assert written == (tmp_path / "two.json").read_bytes()
    assert json.loads(written) == {"small": small, "colliding": colliding}[name]()
    assert take(made, [tmp_path / "one.json"]).n_there == 1
    with pytest.raises(UsageError, match="there is no graph 'none'; nearest: "):
        export_graph(made, "none", tmp_path / "three.json")


@pytest.mark.skipif(not REAL.exists(), reason="needs graphs beside the repository")
def test_real_graphs_come_back_whole(tmp_path: Path) -> None:
    take(tmp_path / "x.lens", [REAL])
    for path in REAL.glob("*.json"):
        export_graph(tmp_path / "x.lens", path.stem, tmp_path / "out.json")
        assert json.loads((tmp_path / "out.json").read_bytes()) == json.loads(path.read_bytes())


def test_features_are_joined_by_option(rich: Store) -> None:
    run = rich.runs[0].info
    found = rich.cursor().execute(
        "SELECT DISTINCT layer, run_id, sae_id FROM graph_nodes WHERE node_type = 'feature' "
        "ORDER BY ALL"
    )
    assert found.fetchall() == [(0, run.run_id, "one"), (1, run.run_id, "two")]
    (joined,) = rich.cursor().execute(
        "SELECT joined FROM graphs WHERE graph_id = 'small'"
    ).fetchall()[0]  # fmt: skip
    assert json.loads(joined) == {"0": [run.run_id, "one"], "1": [run.run_id, "two"]}


def test_options_of_joining_are_checked(rich_path: Path, tmp_path: Path) -> None:
    store = Path(shutil.copytree(rich_path, tmp_path / "x.lens"))
    (run,) = StoreLayout(store).runs()
    file = write(tmp_path, small("new", extra=40))
    for name, saes, said in (
        (None, ["one"], "takes LAYER=SAE"), (None, ["x=one"], "whole number"),
        (None, ["0=won"], "no SAE 'won'"), ("none", [], "no run 'none'"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            import_graphs(store, file, name, saes, False, Progress())
    done = take(store, file, "1=two")
    assert "feature 40 in layer 1, and 'two' has the features 0 to 39" in done.refused[0]
    assert take(store, file, run=run.root.name[:5]).n_joined == 1
    assert take(store, file, run=run.root.name[:5]).n_there == 1
    assert take(store, file).n_there == 1
    found = rows(store, "SELECT layer, sae_id FROM graph_nodes WHERE graph_id = 'new' AND "
                 "node_type = 'feature' ORDER BY layer")  # fmt: skip
    assert found == [(0, "one"), (1, None)]


def test_features_are_joined_where_the_file_names_the_dictionaries(rich_path: Path) -> None:
    from dataclasses import replace

    run = read_run(StoreLayout(rich_path).runs()[0].run_json)
    mlp, one, two = sorted(run.saes, key=lambda sae: sae.sae_id)

    def joined(saes: list[Any], **changes: Any) -> dict[int, str]:
        raw = small()
        raw["metadata"]["info"] |= changes
        graph = parse_graph(content(raw))
        changed = replace(run, saes=saes, model="org/Tiny-Model")
        found = Joins([run, changed]).of(graph, made_of(graph))
        return {layer: sae.sae_id for layer, (_, sae) in found.items()}

    page = [replace(one, neuronpedia_id="tiny-model/0-some-set"),
            replace(two, neuronpedia_id="other-model/1-some-set")]  # fmt: skip
    urls = ["https://neuronpedia.org/tiny-model/some-set"]
    assert joined([one, two]) == {}
    assert joined(page, source_urls=urls) == {0: "one"}
    assert joined(page, transcoder_set="some-set") == {0: "one"}
    assert joined([replace(two, release="someone/tiny-set")]) == {1: "two"}
    assert joined([replace(two, release="someone/tiny-set", d_sae=5)]) == {}
    assert joined([replace(mlp, release="another")], transcoder_set=7) == {}
    own = {"saes": {"1": {"sae_id": "x", "weights_sha256": mlp.weights_sha256}}}
    assert joined([mlp], energylens=own) == {1: "mlp"}
    assert joins_given([run], run.run_id, []).run == run


@pytest.mark.skipif(not REAL.exists(), reason="needs graphs beside the repository")
def test_shares_of_real_graphs_rank_as_their_files_do(tmp_path: Path) -> None:
    """The files' figures are of graphs before pruning, so that ranks agree, not values."""
    from scipy.stats import rankdata

    assert take(tmp_path / "x.lens", [REAL]).n_new == 3
    for (graph,) in rows(tmp_path / "x.lens", "SELECT graph_id FROM graphs"):
        found = rows(tmp_path / "x.lens", "SELECT share, influence FROM graph_nodes WHERE graph_id "
                     f"= '{graph}' AND influence IS NOT NULL")  # fmt: skip
        share, influence = np.array(found).T
        assert np.corrcoef(rankdata(share), rankdata(-influence))[0, 1] > 0.75


def test_nodes_of_no_known_type_are_kept(tmp_path: Path) -> None:
    raw = small("large")
    raw["nodes"] += [node(f"x{n}", "bias", 0, 0, 0) for n in range(1000)]
    raw["links"] += [link(f"x{n}", f"x{n + 1}", 1.0) for n in range(998)]
    assert take(tmp_path / "x.lens", write(tmp_path, raw)).n_nodes == 1008
    kinds = rows(tmp_path / "x.lens", "SELECT node_type, feature_type, count(*), sum(share) "
                 "FROM graph_nodes WHERE layer = 0 GROUP BY ALL HAVING count(*) > 1")  # fmt: skip
    assert kinds == [("other", "bias", 1000, 0.0)]
