"""Origins: which tokens made a feature of an attention-output SAE fire, and through which heads."""

from dataclasses import replace

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical

from energylens.protocol import SourcesRequest, SourcesResult
from energylens.queries.display import number, visible_token
from energylens.tui.address import Told
from energylens.tui.kinds.asking import AskingScreen
from energylens.tui.places import Origins
from energylens.tui.state import RunPlace
from energylens.tui.widgets.heatmap import HeatCell, Heatmap
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar

_ALL = "all heads"
_LEAST = 0.005
"""What is below is written as a dot."""


class OriginsScreen(AskingScreen):
    """A row for each head, a column for each token; the rows together stand first."""

    HELP = """# Origins

The activation of the feature at one token, taken apart: what each earlier token gave to it, by all
heads together and by each head of the layer. What attention writes is a sum over heads and tokens,
and the feature reads a share of each; with what biases gave, the shares are the activation. Shades
are for what raised it. The worker runs the context anew; **esc** goes back to the feature.
"""

    def __init__(self, place: Origins) -> None:
        super().__init__()
        self._place = place
        self._found: SourcesResult | None = None
        self._rows: list[list[float]] = []

    @property
    def here(self) -> RunPlace:
        selection = self._place.feature.selection
        return RunPlace(selection.run, selection.sae)

    def address(self) -> Told:
        place = self._place
        first = place.context_id * self.workspace.store.run(self.here.run).info.n_ctx
        told = replace(super().address(), page="origins", token=first + place.pos)
        told = replace(
            told, feature=f"{place.feature.selection.sae.sae_id}:{place.feature.feature_id}"
        )
        if self._found is None:
            return told
        row, column = self.query_one(Heatmap).cursor
        return replace(told, row=row + 1, other_token=first + column)

    def take(self, told: Told) -> None:
        n_ctx = self.workspace.store.run(self.here.run).info.n_ctx
        if told.row is not None and told.other_token is not None:
            self._begins_at = told.row - 1, told.other_token % n_ctx

    _begins_at: tuple[int, int] | None = None
    """What the cursor is on at first; None is the token that gave most."""

    def compose(self) -> ComposeResult:
        yield ViewBar("features")
        with Vertical(id="origins"):
            yield Heatmap(label_width=10, cell_width=9, opens=False, id="origins-map")
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(Heatmap).focus()
        place = self._place
        selection = place.feature.selection
        request = SourcesRequest(
            selection.sae.sae_id, place.feature.feature_id, place.pos, place.context_id
        )
        self.ask_worker(
            f"taking the activation apart, {self._title}", f"origins of {self._title}",
            "sources", selection.run, request, SourcesResult,
            self._show,
        )  # fmt: skip

    @property
    def _title(self) -> str:
        place = self._place
        return f"feature {place.feature.feature_id} at {place.pos} of context {place.context_id}"

    def _show(self, found: SourcesResult) -> None:
        self._found = found
        together = [sum(column, 0.0) for column in zip(*found.shares, strict=True)]
        self._rows = [together, *found.shares]
        strongest = max(abs(share) for row in self._rows for share in row) or 1.0
        cells = [[_cell(share, strongest) for share in row] for row in self._rows]
        heads = [_ALL, *(f"head {head}" for head in range(len(found.shares)))]
        best = max(range(len(together)), key=together.__getitem__)
        heatmap = self.query_one(Heatmap)
        heatmap.cursor = self._begins_at or (0, best)
        heatmap.show(heads, [visible_token(token) for token in found.tokens], cells)

    @on(Heatmap.Moved)
    def _moved(self, event: Heatmap.Moved) -> None:
        found = self._found
        if found is None:
            return
        who = _ALL if event.row == 0 else f"head {event.row - 1}"
        self.say(
            f"{visible_token(found.tokens[event.column])} at {event.column} gave "
            f"{number(self._rows[event.row][event.column])} by {who}",
            f"of {number(found.activation)}, {number(found.rest)} by biases",
            self._title,
        )


def _cell(share: float, strongest: float) -> HeatCell:
    text = "·" if abs(share) < _LEAST else f"{share:.2f}"
    return HeatCell(text, max(share, 0) / strongest)
