"""A feature's activations against energies or gradients, token by token."""

from typing import ClassVar

import polars as pl
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from energylens.queries.display import visible
from energylens.queries.efas import efas_scatter
from energylens.tui.state import FeaturePlace, Workspace, workspace_of
from energylens.tui.widgets.scatter import scatter

AXES = {
    "energy": "energy (nats)",
    "g_lens": "g lens",
    "g_own": "g own",
    "g_total": "g total",
    "g_calibration": "g calibration",
}
"""What activations are drawn against, by column of `efas_scatter`."""


class ScatterModal(ModalScreen[None]):
    """t draws against something else; esc, enter and q close it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "turn", "Against", id="scatter.turn", tooltip="Energy, gradients"),
        Binding("escape,enter,q,x", "close", "Close", id="scatter.close"),
    ]

    def __init__(self, place: FeaturePlace) -> None:
        super().__init__()
        self._place = place
        self._rows = pl.DataFrame()
        self._axis = "energy"

    @property
    def workspace(self) -> Workspace:
        """The open store and what is in view."""
        return workspace_of(self)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            title = (
                f"Feature {self._place.feature_id} of {visible(self._place.selection.sae.sae_id)}"
            )
            yield Static(title, classes="dialog-title", markup=False)
            yield Static("", id="scatter", markup=False)
            yield Static(
                "t: against energy or a gradient, esc closes", classes="dialog-hint", markup=False
            )

    def on_mount(self) -> None:
        run, sae = self._place.selection.run, self._place.selection.sae.sae_id
        self.workspace.tasks.ask(
            self,
            "scatter",
            lambda session: efas_scatter(session, run, sae, self._place.feature_id),
            self._show,
        )

    def _show(self, rows: pl.DataFrame) -> None:
        self._rows = rows
        width, height = min(self.app.size.width - 34, 80), min(self.app.size.height - 15, 24)
        self.query_one("#scatter", Static).update(drawn(rows, self._axis, width, height))

    def action_turn(self) -> None:
        """Draw against the next of what there is."""
        known = [name for name in AXES if name in self._rows.columns and self._rows[name].count()]
        if known:
            place = known.index(self._axis) if self._axis in known else -1
            self._axis = known[(place + 1) % len(known)]
            self._show(self._rows)

    def action_close(self) -> None:
        self.dismiss(None)


def drawn(rows: pl.DataFrame, axis: str, width: int, height: int) -> Text:
    """The rows of `efas_scatter` with activations from left to right."""
    if rows.is_empty():
        return Text("active on no token that has a next one and is not masked", "dim")
    points = rows.select("activation", axis).drop_nulls().rows()
    return scatter(points, width, height, "activation", AXES[axis])
