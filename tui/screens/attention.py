"""All attention of one head in one context, computed by the worker: a heatmap under the tokens."""

from dataclasses import replace

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from energylens.protocol import AttentionRequest, AttentionResult
from energylens.queries.display import number, visible_token
from energylens.tui.address import Told
from energylens.tui.kinds.asking import AskingScreen
from energylens.tui.places import Attention
from energylens.tui.state import RunPlace
from energylens.tui.widgets.heatmap import HeatCell, Heatmap
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar

_LEAST = 0.005
"""Attention below is written as a dot."""


class AttentionScreen(AskingScreen):
    """A row for each token that looks, a column for each token looked at."""

    HELP = """# Attention

Each row is a token of the context and shares its attention among itself and the tokens before it,
which are the columns: numbers are hundredths, a dot is less than half of one. The worker runs the
context anew; **9** lists what it does, and **esc** goes back to the head. Of a mesa head the
numbers are shares of absolute weights.
"""

    def __init__(self, place: Attention) -> None:
        super().__init__()
        self._place = place
        self._found: AttentionResult | None = None

    @property
    def here(self) -> RunPlace:
        return RunPlace(self._place.of.run)

    def names(self) -> list[str]:
        return [self._place.of.run]

    def address(self) -> Told:
        of, n_ctx = self._place.of, self.workspace.store.run(self._place.of.run).info.n_ctx
        at = self._place.destination, self._place.source
        row, column = at if self._found is None else self.query_one(Heatmap).cursor
        first = self._place.context_id * n_ctx
        told = replace(super().address(), page="attention", head=f"{of.layer}.{of.head}")
        return replace(told, token=first + row, other_token=first + column)

    def compose(self) -> ComposeResult:
        yield ViewBar("heads")
        with Vertical(id="attention"):
            yield Heatmap(label_width=14, cell_width=6, opens=False, id="attention-map")
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(Heatmap).focus()
        place = self._place
        request = AttentionRequest(place.of.layer, place.of.head, context_id=place.context_id)
        self.ask_worker(
            f"reading the context, {self._title}", f"attention of {self._title}",
            "attention", place.of.run, request, AttentionResult, self._show,
        )  # fmt: skip

    @property
    def _title(self) -> str:
        place = self._place
        return f"layer {place.of.layer} head {place.of.head} in context {place.context_id}"

    def _show(self, found: AttentionResult) -> None:
        self._found = found
        n = len(found.tokens)
        cells = [
            [_cell(row[s]) if s < len(row) else HeatCell("", None) for s in range(n)]
            for row in found.pattern
        ]
        labels = [visible_token(token) for token in found.tokens]
        heatmap = self.query_one(Heatmap)
        heatmap.cursor = (self._place.destination, self._place.source)
        heatmap.show(labels, labels, cells)

    @on(Heatmap.Moved)
    def _moved(self, event: Heatmap.Moved) -> None:
        found = self._found
        if found is None:
            return
        row, tokens = found.pattern[event.row], found.tokens
        share = number(row[event.column]) if event.column < len(row) else "sees no later token"
        self.say(
            f"{visible_token(tokens[event.row])} at {event.row} to "
            f"{visible_token(tokens[event.column])} at {event.column}: {share}",
            self._title,
            f"{found.kind} head" if found.kind != "attention" else "",
        )


def _cell(share: float) -> HeatCell:
    return HeatCell("·" if share < _LEAST else f"{share * 100:.0f}", share)
