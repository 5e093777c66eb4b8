"""Attribution graphs: every one of the store, and beside the list what is in it."""

from dataclasses import replace

import polars as pl
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal

from energylens.queries.graphs import graph_list
from energylens.tui.address import Told
from energylens.tui.kinds.preview import Look, Preview, PreviewScreen
from energylens.tui.lacks import no_graphs
from energylens.tui.places import OneGraph
from energylens.tui.previews import graph_preview
from energylens.tui.widgets.columns import numeric, text, whole
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import VirtualTable

_COLUMNS = (
    text("graph_id", "graph", 24),
    text("prompt", "prompt", 34),
    text("logit", "logit", 22),
    whole("n_features", "features", 8),
    whole("n_links", "links", 7),
    numeric("error_share", "errors", 6, 2),
    whole("n_joined", "joined", 6),
    whole("n_supernodes", "groups", 6),
    whole("n_ambiguous", "ambig.", 6),
    text("scan", "model", 14),
    text("source_set", "dictionaries", 26),
)


class GraphsScreen(PreviewScreen):
    """A row for each graph."""

    HELP = """# Graphs

Attribution graphs: what adds to what in a model, from the tokens of a prompt to the logits of the
next token, as circuit-tracer traces them. `energylens import graph` takes them in. Each row tells
the prompt, the logit the graph was traced for, its features and links, the part of the logits that
comes from errors of reconstruction and is not explained (*errors*), how many features a run of this
store knows (*joined*), groups that somebody made (supernodes), and links that may be of several
nodes (*ambig.*). **enter** opens a graph; **/** filters, **s** and **S** sort.
"""

    def compose(self) -> ComposeResult:
        yield ViewBar("graphs")
        with Horizontal(id="graphs", classes="beside"):
            yield VirtualTable(_COLUMNS, id="graphs-list")
            yield Preview()
        yield StatusBar(id="status")
        yield KeyBar()

    def names(self) -> list[str]:
        return [self.workspace.store.path.name]

    def address(self) -> Told:
        return replace(super().address(), page="graphs")

    def on_mount(self) -> None:
        self.query_one(VirtualTable).focus()
        self.workspace.tasks.ask(self, "graphs", graph_list, self._shown)

    def _shown(self, rows: pl.DataFrame) -> None:
        table = self.query_one(VirtualTable)
        lack = no_graphs(self.workspace.store.path) if rows.is_empty() else None
        self.show_lack(lack, table, self.query_one(Preview))
        if lack is None:
            self.show_rows(table, rows)
            self.look_again()
        self.say(f"{len(rows):,} attribution graphs" if len(rows) != 1 else "1 attribution graph")

    def look(self, table: VirtualTable) -> Look | None:
        rows = self.frame("graphs-list")
        if table.cursor_row >= len(rows):
            return None
        graph_id = rows["graph_id"][table.cursor_row]
        return lambda session, _: graph_preview(session, graph_id)

    @on(VirtualTable.Chosen)
    def _open(self, event: VirtualTable.Chosen) -> None:
        row = self.row_of(event)
        if row is not None:
            self.open_place(OneGraph(row["graph_id"]))
