"""Heads: layer by head as a heatmap of one score, and every head in a list under it."""

from dataclasses import replace
from typing import ClassVar

import polars as pl
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from energylens.db.store import Session
from energylens.queries.display import number
from energylens.queries.heads import MOST_HEADS, head_ranking
from energylens.queries.scope import SCORES
from energylens.tui.address import Told
from energylens.tui.kinds.preview import Look, Preview, PreviewScreen
from energylens.tui.lacks import Lack, why_nothing
from energylens.tui.places import Heads, OneHead
from energylens.tui.previews import head_preview
from energylens.tui.state import RunPlace
from energylens.tui.widgets.columns import numeric, whole
from energylens.tui.widgets.heatmap import HeatCell, Heatmap
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import VirtualTable

_COLUMNS = (
    whole("layer", "layer", 5),
    whole("head", "head", 4),
    numeric("induction", "induct.", 7),
    numeric("previous_token", "prev.", 6),
    numeric("duplicate_token", "dupl.", 6),
    numeric("self_token", "self", 6),
    numeric("first_token", "first", 6),
    numeric("copying", "copying", 7),
    numeric("matching", "match.", 6),
    numeric("entropy", "entropy", 7),
    numeric("distance", "dist.", 6),
    numeric("output_norm", "norm", 6),
)
_SHARES = 7
"""The first scores are shares of attention, or lie between -1 and 1; the others have no bound."""


class HeadsScreen(PreviewScreen):
    """A row for each layer, a column for each head."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "turn(1)", "Next score", id="heads.turn", tooltip="Another score in the map"),
        Binding("T", "turn(-1)", "Last score", show=False, id="heads.turn_back"),
        Binding("tab", "app.focus_next", "List", show=False, id="heads.list"),
    ]
    HELP = """# Heads

Every attention head of the model over all tokens of the run, once `energylens heads` has measured
them. The map shows one score; **t** and **T** turn to the next and the last one: attention to what
followed earlier places of the same token (induction), to the token before, to earlier places of the
token itself (duplicate), to itself, to the first token; by weights alone, whether what is attended
to is made likelier (copying) and whether tokens attend to their like (matching); entropy of the
attention, tokens looked back, and the norm of what is written. **enter** opens a head: its
skip-trigrams, where it looks, who reads it. **tab** goes to the list, where **s** and **S** sort
and **/** filters. Of a MesaNet these are mesa heads, an analogue: see docs/circuits.md.
"""

    def __init__(self, place: Heads) -> None:
        super().__init__()
        self._run, self._score = place.run, 0
        self._rows = pl.DataFrame()
        self._at: tuple[int, int] | None = None
        """The head under the cursor of the map."""

    @property
    def here(self) -> RunPlace:
        return RunPlace(self._run)

    def names(self) -> list[str]:
        return [self._run]

    def address(self) -> Told:
        head = None if self._at is None else f"{self._at[0]}.{self._at[1]}"
        shown = SCORES[self._score] if self._score else None
        return replace(super().address(), page="heads", head=head, show=shown)

    def take(self, told: Told) -> None:
        self._score = SCORES.index(self.one_of(SCORES, told.show))
        self._head = told.head
        self._draw()
        super().take(told)

    _head: str | None = None
    """The head that words ask for."""

    def compose(self) -> ComposeResult:
        yield ViewBar("heads")
        with Horizontal(classes="beside"):
            with Vertical(id="heads"):
                yield Heatmap(label_width=6, cell_width=7, id="heads-map")
                yield VirtualTable(_COLUMNS, id="heads-list")
            yield Preview()
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(Heatmap).focus()
        self.workspace.tasks.ask(
            self,
            "heads",
            self._read,
            lambda found: self._shown(*found),
        )

    def _read(self, session: Session) -> tuple[pl.DataFrame, Lack | None]:
        rows = head_ranking(session, self._run, k=MOST_HEADS)
        store = self.workspace.store
        return rows, why_nothing(session, store, self.here, "heads") if rows.is_empty() else None

    def _shown(self, rows: pl.DataFrame, lack: Lack | None) -> None:
        self._rows = rows
        self.show_lack(
            lack, self.query_one(Heatmap), self.query_one(VirtualTable), self.query_one(Preview)
        )
        self.say()
        if lack is not None:
            return
        self.show_rows(self.query_one(VirtualTable), rows)
        self._draw()

    def _draw(self) -> None:
        if self._rows.is_empty():
            return
        score = SCORES[self._score]
        found = {(r["layer"], r["head"]): r[score] for r in self._rows.iter_rows(named=True)}
        known = [value for value in found.values() if value is not None]
        top = 1.0 if self._score < _SHARES else max(known, default=1.0) or 1.0
        heads = range(max(head for _, head in found) + 1)
        self._layers = sorted({layer for layer, _ in found})
        cells = [[_cell(found.get((i, j)), top) for j in heads] for i in self._layers]
        if self._head is not None:
            layer, _, head = self._head.partition(".")
            self.query_one(Heatmap).cursor = self._layers.index(int(layer)), int(head)
            self._head = None
        self.query_one(Heatmap).show(
            [f"L{layer}" for layer in self._layers], [f"H{head}" for head in heads], cells
        )

    @on(Heatmap.Moved)
    def _moved(self, event: Heatmap.Moved) -> None:
        score, layer = SCORES[self._score], self._layers[event.row]
        own = self._rows.filter((pl.col("layer") == layer) & (pl.col("head") == event.column))
        if own.is_empty():
            return
        self._at = layer, event.column
        self.look_soon(self.query_one(VirtualTable))
        row = own.row(0, named=True)
        beside = row.get(f"{score}_uniform")
        high = row.get(f"{score}_random_975")
        self.say(
            f"[{score}] layer {layer} head {event.column}: {number(row[score])}",
            f"uniform attention {number(beside)}" if beside is not None else "",
            f"97.5 % of random heads below {number(high)}" if high is not None else "",
            f"{row['kind']} heads" if row["kind"] != "attention" else "",
        )

    @on(Heatmap.Chosen)
    def _open(self, event: Heatmap.Chosen) -> None:
        self.open_place(OneHead(self._run, self._layers[event.row], event.column))

    @on(VirtualTable.Chosen)
    def _open_row(self, event: VirtualTable.Chosen) -> None:
        row = self.row_of(event)
        if row is not None:
            self.open_place(OneHead(self._run, row["layer"], row["head"]))

    def action_turn(self, by: int) -> None:
        """Show another score, and round again."""
        self._score = (self._score + by) % len(SCORES)
        self._draw()

    def look(self, table: VirtualTable) -> Look | None:
        rows = self.frame(table.id or "")
        if table.cursor_row >= len(rows):
            return None
        own = rows.select("layer", "head").row(table.cursor_row)
        layer, head = own if table.has_focus else self._at or own
        return lambda session, _: head_preview(session, self._run, layer, head)

    def step_back(self) -> bool:
        """Out of the list."""
        is_inside = self.query_one(VirtualTable).has_focus and not self._rows.is_empty()
        if is_inside:
            self.query_one(Heatmap).focus()
        return is_inside


def _cell(value: float | None, top: float) -> HeatCell:
    return HeatCell("·", None) if value is None else HeatCell(f"{value:.2f}", max(value, 0) / top)
