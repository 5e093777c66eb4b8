"""One attribution graph: its nodes by layer and token, what goes into and out of each, and the way
from it to the logit."""

from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import polars as pl
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical
from textual.timer import Timer
from textual.widgets import Static

from energylens.db.store import Session
from energylens.queries.display import number, visible, visible_token
from energylens.queries.graphs import graph_list, graph_paths, node_links, traced_nodes
from energylens.tui.address import Told
from energylens.tui.kinds.base import PEEK_AFTER
from energylens.tui.kinds.listing import ListingScreen
from energylens.tui.places import OneGraph, place_of_row
from energylens.tui.previews import node_name
from energylens.tui.widgets.columns import MOST_ROWS, label, mark, numeric, text, token, whole
from energylens.tui.widgets.heatmap import HeatCell, Heatmap
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import VirtualTable

_SHOWN = ("share", "nodes")
"""What the cells of the map tell."""
_NODES = (
    whole("layer", "layer", 5),
    token("token", "token", 10),
    whole("feature_id", "feature", 8),
    label("label", "label", 24),
    numeric("share", "share", 7),
    numeric("activation", "activ.", 7),
    numeric("energy_correlation", "energy", 7, 2),
    text("groups", "groups", 16),
    text("node_type", "type", 9),
    text("sae_id", "SAE", 16),
    mark("is_ambiguous", "ambig.", 6),
)
_LINKS = (
    text("direction", "", 3),
    numeric("weight", "weight", 8),
    numeric("part", "part", 6, 2),
    whole("layer", "layer", 5),
    token("token", "token", 10),
    whole("feature_id", "feature", 8),
    label("label", "label", 24),
    text("node_type", "type", 9),
    mark("is_ambiguous", "ambig.", 6),
)
_N_PATHS = 3
_LEAST_PART = 1e-4
"""Of the logit that a path is looked for which brings as much."""
_LABEL = (
    pl.when(pl.col("label").is_null() & (pl.col("node_type") == "error"))
    .then(pl.lit("what the features leave out"))
    .when(pl.col("label").is_null() & (pl.col("node_type") == "embedding"))
    .then(pl.lit("the token itself"))
    .otherwise(pl.col("label"))
)
"""What nodes are called that nobody has called something."""
_UNKNOWN = -2
"""Stands for the layer of errors whose file does not tell."""


class GraphScreen(ListingScreen):
    """A map above the nodes of its cell; the links and the paths of the node beside or below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "all", "All nodes", id="graph.all", tooltip="All nodes, or those of the cell"),
        Binding("t", "turn", "Counts", id="graph.turn", tooltip="Shares or counts in the map"),
        Binding("tab", "app.focus_next", "Lists", show=False, id="graph.lists"),
    ]
    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-high")]  # noqa: RUF012 - Textual's own type
    HELP = """# A graph

One attribution graph. The map has a row for each layer, the logits on top and the tokens at the
bottom, and a column for each token: what of the logits comes through the nodes there, in percent,
or, after **t**, how many nodes there are. **enter** goes into a cell: its nodes, by their share;
**f** lists all nodes of the graph. **enter** on a node opens its feature where the graph is joined
to a run; *groups* are the supernodes it is in. Under them, or beside, stand the links of the node
under the cursor, first those that come *in*, then those that go *out*, by weight; *part* is how
much of its target's input a link is. **enter** on a link goes to the node at its other end,
**escape** comes back. Below are the strongest paths from the node to the logit the graph was traced
for, with the part of the logit each brings, and its sign. *energy* is how a feature goes with the
energy of tokens in its run. **tab** goes from list to list, **z** shows one alone, **/** filters,
**s** and **S** sort.
"""

    def __init__(self, place: OneGraph) -> None:
        super().__init__()
        self._graph, self._begin_at = place.graph_id, place.node_id
        self._all_nodes = pl.DataFrame()
        self._layers: list[int] = []
        self._shown = _SHOWN[0]
        self._has_all = False
        self._node: dict[str, Any] | None = None
        """The node under the cursor."""
        self._wanted: int | None = None
        """The node that the cursor goes to once its cell is listed."""
        self._trail: list[int] = []
        """Nodes that links were followed from."""
        self._rest_of_cursor: Timer | None = None

    def names(self) -> list[str]:
        return [visible(self._graph)]

    def address(self) -> Told:
        told = replace(super().address(), page="graph", graph=self._graph, sort=None, row=None)
        node = self._node["node_id"] if self._node else None
        shown = f"all {self._shown}" if self._has_all else self._shown
        return replace(told, node=node, show=None if shown == _SHOWN[0] else shown)

    def take(self, told: Told) -> None:
        ways = [*_SHOWN, *(f"all {name}" for name in _SHOWN)]
        shown = self.one_of(ways, told.show)
        self._shown, self._has_all = shown.removeprefix("all "), shown.startswith("all ")
        self._begin_at = told.node
        if len(self._all_nodes):
            self._draw()
        super().take(told)

    def compose(self) -> ComposeResult:
        yield ViewBar("graphs")
        with Vertical(id="graph"):
            yield Static("", id="graph-facts", markup=False)
            with Container(id="graph-panes"):
                with Vertical(id="graph-left"):
                    yield Heatmap(label_width=6, cell_width=7, id="graph-map")
                    yield VirtualTable(_NODES, id="graph-nodes")
                with Vertical(id="graph-right"):
                    yield VirtualTable(_LINKS, id="graph-links")
                    yield Static("", id="graph-paths", markup=False)
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(Heatmap).focus()

        def question(session: Session) -> tuple[pl.DataFrame, pl.DataFrame]:
            rows = graph_list(session).filter(pl.col("graph_id") == self._graph)
            return rows, traced_nodes(session, self._graph)

        self.workspace.tasks.ask(self, "graph", question, lambda found: self._show(*found))

    def _show(self, graphs: pl.DataFrame, nodes: pl.DataFrame) -> None:
        self._all_nodes = nodes.with_columns(
            pl.col("supernodes").list.join(", ").alias("groups"),
            pl.col("layer").fill_null(_UNKNOWN),
            label=_LABEL,
        )
        self._layers = sorted(self._all_nodes["layer"].unique().to_list(), reverse=True)
        self.query_one("#graph-facts", Static).update(_facts(graphs.row(0, named=True)))
        self._draw()

    def _draw(self) -> None:
        """The map, with the cursor on the node that is wanted, at first the logit."""
        by_id = self._all_nodes.filter(pl.col("node_id") == (self._begin_at or ""))
        logits = self._all_nodes.filter(pl.col("node_type") == "logit").sort(
            "is_target_logit", "token_prob", descending=True, nulls_last=True, maintain_order=True
        )
        found = next(
            (rows for rows in (by_id, logits, self._all_nodes) if len(rows)), self._all_nodes
        )
        first = found.row(0, named=True)
        shown = self.query_one(Heatmap)
        self._wanted = first["number"] if self._node is None else self._node["number"]
        if self._node is None:
            shown.cursor = self._layers.index(first["layer"]), first["pos"]
        shown.show([self._row_name(layer) for layer in self._layers], self._tokens(), self._cells())

    def _row_name(self, layer: int) -> str:
        types = self._all_nodes.filter(pl.col("layer") == layer)["node_type"].unique().to_list()
        named = {"logit": "logit", "embedding": "token"}
        if len(types) == 1 and types[0] in named:
            return named[types[0]]
        return "L?" if layer == _UNKNOWN else f"L{layer}"

    def _tokens(self) -> list[str]:
        """The token at each place; places without a node in them too."""
        known = dict(self._all_nodes.select("pos", "token").iter_rows())
        return [visible_token(known.get(pos) or "") for pos in range(max(known) + 1)]

    def _cells(self) -> list[list[HeatCell]]:
        sums = self._all_nodes.group_by("layer", "pos").agg(
            pl.col("share").sum().alias("share"), pl.len().alias("nodes")
        )
        found = {(row["layer"], row["pos"]): row for row in sums.iter_rows(named=True)}
        below = (row for row in found.values() if self._row_name(row["layer"]) != "logit")
        top = max((float(row[self._shown]) for row in below), default=1.0) or 1.0
        places = range(max(pos for _, pos in found) + 1)

        def cell(layer: int, pos: int) -> HeatCell:
            row = found.get((layer, pos))
            if row is None:
                return HeatCell("", None)
            value = float(row[self._shown])
            said = f"{100 * value:.1f}" if self._shown == "share" else str(row["nodes"])
            return HeatCell(said, min(max(value, 0.0) / top, 1.0))

        return [[cell(layer, pos) for pos in places] for layer in self._layers]

    @on(Heatmap.Moved)
    def _cell_moved(self, event: Heatmap.Moved) -> None:
        rows = self._all_nodes
        if not self._has_all:
            layer = self._layers[event.row]
            rows = rows.filter((pl.col("layer") == layer) & (pl.col("pos") == event.column))
        elif len(self.frame("graph-nodes")) and self._wanted is None:
            return  # the whole list stays where it is
        table, wanted = self.query_one("#graph-nodes", VirtualTable), self._wanted
        self._wanted = None
        self.show_rows(table, rows)
        if wanted is not None and wanted in rows["number"]:
            table.move_to(rows["number"].to_list().index(wanted))
        if rows.is_empty():
            self._node = None
            self._show_links(pl.DataFrame(schema=self.frame("graph-links").schema), None)
            self.say("no node here")

    @on(Heatmap.Chosen)
    def _into_cell(self) -> None:
        self.query_one("#graph-nodes").focus()

    @on(VirtualTable.Moved, "#graph-nodes")
    def _node_moved(self, event: VirtualTable.Moved) -> None:
        row = self.row_of_cursor()
        if row is None or (self._node is not None and self._node["number"] == row["number"]):
            return
        self._node = row
        self._say_node(row)
        if self._rest_of_cursor is not None:
            self._rest_of_cursor.stop()
        self.workspace.tasks.cancel(self, "links")
        self._rest_of_cursor = self.set_timer(PEEK_AFTER, partial(self._look_at, row))

    def row_of_cursor(self) -> dict[str, Any] | None:
        """The node under the cursor of the list; None where the list is empty."""
        rows = self.frame("graph-nodes")
        at = self.query_one("#graph-nodes", VirtualTable).cursor_row
        return rows.row(at, named=True) if 0 <= at < len(rows) else None

    def _say_node(self, row: dict[str, Any]) -> None:
        self.say(
            node_name(row),
            f"share {number(row['share'])}",
            f"p {number(row['token_prob'])}" if row["node_type"] == "logit" else "",
            f"in {visible(row['groups'])}" if row["groups"] else "",
            "several nodes go by this id" if row["is_ambiguous"] else "",
        )

    def _look_at(self, row: dict[str, Any]) -> None:
        graph, node_id = self._graph, row["node_id"]

        def question(session: Session) -> tuple[pl.DataFrame, pl.DataFrame | None]:
            links = node_links(session, graph, node_id, k=MOST_ROWS)
            if row["node_type"] == "logit":
                return links, None
            return links, graph_paths(session, graph, node_id, min_part=_LEAST_PART, k=_N_PATHS)

        self.workspace.tasks.ask(self, "links", question, lambda found: self._show_links(*found))

    def _show_links(self, links: pl.DataFrame, paths: pl.DataFrame | None) -> None:
        named = links.with_columns(label=_LABEL) if links.width else links
        self.show_rows(self.query_one("#graph-links", VirtualTable), named)
        shown, said = self.query_one("#graph-paths", Static), self._said_paths(paths)
        shown.set_class(not said, "-empty")
        shown.update(said)

    def _said_paths(self, paths: pl.DataFrame | None) -> Text:
        shown = Text(no_wrap=True, overflow="ellipsis")
        if paths is None:
            return shown
        if paths.is_empty():
            shown.append(f"no path brings {100 * _LEAST_PART:g} % of the logit", "dim")
        rows = {row["node_id"]: row for row in self._all_nodes.iter_rows(named=True)}
        for path in paths.iter_rows(named=True):
            shown.append("\n" if shown else "")
            shown.append(f"{100 * path['part']:.2f} % {'-' if path['sign'] < 0 else '+'} ", "bold")
            shown.append(" → ".join(_short(rows[node_id]) for node_id in path["node_ids"][1:]))
        return shown

    @on(VirtualTable.Chosen, "#graph-nodes")
    def _open_node(self, event: VirtualTable.Chosen) -> None:
        row = self.row_of(event)
        if row is None:
            return
        place = place_of_row(row, self.workspace) if row["sae_id"] is not None else None
        if place is not None:
            self.open_place(place)
        elif row["node_type"] == "feature":
            self.cannot(
                "No run of this store knows this feature. Where one has the graph's dictionaries: "
                "energylens import graph STORE FILE --run RUN --sae LAYER=SAE"
            )
        else:
            self.cannot(f"{node_name(row)} is no feature: there is nothing more to open.")

    @on(VirtualTable.Chosen, "#graph-links")
    def _follow(self, event: VirtualTable.Chosen) -> None:
        row = self.row_of(event)
        if row is None:
            return
        ends = self._all_nodes.filter(pl.col("node_id") == row["node_id"])
        if len(ends) != 1:
            several = f"{len(ends)} nodes go" if len(ends) else "No node goes"
            self.cannot(f"{several} by the id '{visible(row['node_id'])}'.")
            return
        if self._node is not None:
            self._trail.append(self._node["number"])
        self._go(ends.row(0, named=True))

    def _go(self, node: dict[str, Any]) -> None:
        self._wanted = node["number"]
        self.query_one(Heatmap).move_to(self._layers.index(node["layer"]), node["pos"])

    def action_all(self) -> None:
        """List all nodes, or those of the cell."""
        self._has_all = not self._has_all
        if self._node is not None:
            self._go(self._node)

    def action_turn(self) -> None:
        """Show the other figure in the map."""
        self._shown = _SHOWN[1 - _SHOWN.index(self._shown)]
        self._draw()

    def step_back(self) -> bool:
        """To the node that a link was followed from; else out of a list."""
        if self._trail:
            before = self._trail.pop()
            self._go(self._all_nodes.filter(pl.col("number") == before).row(0, named=True))
            return True
        is_inside = not self.query_one(Heatmap).has_focus
        self.query_one(Heatmap).focus()
        return is_inside


def _facts(row: dict[str, Any]) -> Text:
    shown = Text(no_wrap=True, overflow="ellipsis")
    shown.append(visible(row["prompt"]), "bold")
    shown.append(f"  →  {visible(row['logit'] or '')}\n")
    told = (
        f"{row['scan']}, {row['source_set'] or 'dictionaries not named'}",
        f"{row['n_features']:,} features, {row['n_links']:,} links",
        f"errors bring {number(row['error_share'], 2)}",
        f"{row['n_joined']:,} features joined" if row["n_joined"] else "joined to no run",
        f"{row['n_ambiguous']:,} links ambiguous" if row["n_ambiguous"] else "",
    )
    shown.append(visible("  ".join(filter(None, told))), "dim")
    return shown


def _short(row: dict[str, Any]) -> str:
    if row["node_type"] == "feature":
        return f"L{row['layer']}:{row['feature_id']}"
    return node_name(row)
