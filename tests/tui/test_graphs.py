"""The screens of attribution graphs, read as a person reads them, against the named queries."""

from pathlib import Path

import pytest

from energylens.db.version import create_store
from energylens.ingest.graphs import import_graphs
from energylens.ingest.progress import Progress
from energylens.queries.catalog import open_catalog
from energylens.queries.graphs import graph_list, graph_paths, node_links, traced_nodes
from energylens.tui.address import Told
from energylens.tui.modals.cannot import Cannot
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.graph import GraphScreen
from energylens.tui.screens.graphs import GraphsScreen
from energylens.tui.widgets.heatmap import Heatmap
from energylens.tui.widgets.lacking import Lacking
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.graphs import small, write
from tests.tui.conftest import Driver, Open

SIZES = pytest.mark.parametrize("size", ["60x15", "small", "large"])


def screen(d: Driver) -> GraphScreen:
    assert isinstance(d.app.screen, GraphScreen)
    return d.app.screen


def under_cursor(d: Driver) -> str:
    """The node under the cursor of the list."""
    row = screen(d).row_of_cursor()
    assert row is not None
    return row["node_id"]


async def rested(d: Driver) -> None:
    """Wait until what the cursor rests on has been looked up."""
    await d.pilot.pause(0.2)
    await d.settle()


@SIZES
async def test_graphs_are_listed_and_opened(drive: Open, rich_path: Path, size: str) -> None:
    with open_catalog(rich_path) as store:
        names = graph_list(store)["graph_id"].to_list()
    async with drive(size, rich_path) as d:
        await d.press("W")
        assert isinstance(d.app.screen, GraphsScreen)
        listed = [line.split()[0] for line in d.lines[2 : 2 + len(names)]]
        assert listed == names and "3 attribution graphs" in d.text
        await d.press("W")
        assert len(d.app.screen_stack) == 2, "it is open already"
        await rested(d)
        assert ("logits, 2: 1" in d.text) == (size == "large")
        await d.press("slash", *"small", "enter", "enter")
        assert screen(d).names() == ["small"]
        await d.press("escape", "escape", "escape")
        assert not isinstance(d.app.screen, GraphsScreen | GraphScreen)
        await d.press("colon", *"graphs", "enter")
        assert isinstance(d.app.screen, GraphsScreen)


@SIZES
async def test_a_graph_is_a_map_of_layers_and_tokens(
    drive: Open, rich_path: Path, size: str
) -> None:
    with open_catalog(rich_path) as store:
        nodes = {row["node_id"]: row for row in traced_nodes(store, "small").iter_rows(named=True)}
    async with drive(size, rich_path, told=Told(graph="sma")) as d:
        assert under_cursor(d) == "3_21_2", "the logit it was traced for"
        await d.press("tab", "z")
        await d.press("z", "z", "z")
        d.app.screen.query_one(Heatmap).focus()
        await d.press("z")
        rows = {line.split()[0]: line.replace("▐", " ").replace("▌", " ") for line in d.lines[2:]
                if line[:1].isalpha()}  # fmt: skip
        for name, ids in (
            ("logit", ["3_21_2", "3_22_2"]), ("L1", ["1_5_2"]), ("L0", ["0_3_1", "0_0_2"]),
            ("token", ["E_0_0", "E_11_1", "E_12_2"]),
        ):  # fmt: skip
            by_pos: dict[int, float] = {}
            for node_id in ids:
                pos = nodes[node_id]["pos"]
                by_pos[pos] = by_pos.get(pos, 0.0) + nodes[node_id]["share"]
            expected = [f"{100 * by_pos[pos]:.1f}" for pos in sorted(by_pos)]
            assert rows[name].split()[1:] == expected, name
        await d.press("t")
        assert [line.split()[1:] for line in d.lines if line.startswith("token")] == [["1"] * 3]


@SIZES
async def test_links_are_followed_and_gone_back(drive: Open, rich_path: Path, size: str) -> None:
    with open_catalog(rich_path) as store:
        links = node_links(store, "small", "1_5_2").rows(named=True)
        best = graph_paths(store, "small", "1_5_2", k=1).row(0, named=True)
    async with drive(size, rich_path, told=Told(graph="small", node="1_5_2")) as d:
        await rested(d)
        assert under_cursor(d) == "1_5_2" and "L1 5 at" in d.text
        shown = screen(d).frame("graph-links")
        assert shown["node_id"].to_list() == [row["node_id"] for row in links]
        said = f"{100 * best['part']:.2f} % +"
        assert (said in d.text) == (size != "60x15")
        table = d.app.screen.query_one("#graph-links", VirtualTable)
        table.focus()
        assert shown.row(0, named=True)["node_id"] == "0_3_1"
        await d.press("enter")
        await rested(d)
        assert under_cursor(d) == "0_3_1"
        assert screen(d).frame("graph-links")["direction"].to_list() == ["in", "in", "out", "out"]
        await d.press("end", "enter")
        await rested(d)
        assert under_cursor(d) == "3_21_2"
        await d.press("escape", "escape")
        assert under_cursor(d) == "1_5_2"


@SIZES
async def test_enter_opens_the_feature_that_a_run_knows(
    drive: Open, rich_path: Path, size: str
) -> None:
    async with drive(size, rich_path, told=Told(graph="small", node="0_3_1")) as d:
        assert "in about cats" in d.text
        await d.press("enter", "enter")
        assert isinstance(d.app.screen, FeatureScreen)
        await d.press("escape")
        assert under_cursor(d) == "0_3_1"
        await d.press("f")
        listed = screen(d).frame("graph-nodes")
        assert len(listed) == 8 and listed["share"].is_sorted(descending=True)
        assert under_cursor(d) == "0_3_1"
        await d.press("slash", *"type:error", "enter", "enter")
        assert isinstance(d.app.screen, Cannot) and "is no feature" in d.text


async def test_names_of_several_nodes_are_told(drive: Open, rich_path: Path) -> None:
    async with drive("large", rich_path, told=Told(graph="colliding", node="E_12_2")) as d:
        await rested(d)
        rows = screen(d).frame("graph-links")
        at = rows["node_id"].to_list().index("0_1_2")
        table = d.app.screen.query_one("#graph-links", VirtualTable)
        table.focus()
        table.move_to(at)
        await d.press("enter")
        assert isinstance(d.app.screen, Cannot) and "2 nodes go by the id '0_1_2'" in d.text


@SIZES
async def test_a_store_of_graphs_alone(drive: Open, tmp_path: Path, size: str) -> None:
    made = small("\x1b[31m[b]red")
    made["metadata"]["prompt_tokens"][1] = "\x1b]0;x\x07"
    import_graphs(tmp_path / "x.lens", write(tmp_path, made), None, [], False, Progress())
    async with drive(size, tmp_path / "x.lens") as d:
        await d.press("W", "enter")
        assert screen(d).query_one(Heatmap).has_focus
        assert "\x1b" not in d.text and "[b]red" in d.text
        await d.press("down", "enter", "enter")
        assert isinstance(d.app.screen, Cannot) and "No run of this store" in d.text


async def test_a_store_without_graphs_says_how_to_take_some_in(drive: Open, tmp_path: Path) -> None:
    create_store(tmp_path / "x.lens")
    async with drive("small", tmp_path / "x.lens") as d:
        await d.press("W")
        assert d.app.screen.query_one(Lacking).display
        assert "energylens import graph" in " ".join(d.text.split())
