"""Curves of a training of SAEs, drawn anew as it goes on."""

import math
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from energylens.errors import EnergyLensError
from energylens.queries.display import visible
from energylens.queries.training_curves import Curve, training_curves
from energylens.tui.state import workspace_of
from energylens.tui.widgets.curves import curve_line, ends

_EVERY = 2.0
"""Seconds between two looks at the file."""
_TITLES = {
    "loss": "loss",
    "fvu": "fvu (unexplained variance)",
    "l0": "L0 (features active a token)",
    "dead_share": "dead (share of features)",
}
_MARGIN = 8
"""Cells of a line that frame and padding take."""


class TrainingCurves(ModalScreen[None]):
    """Loss, fvu, L0 and dead share of each SAE, on one scale a metric."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "close", "Close", id="training.close"),
    ]

    def __init__(self, place: Path) -> None:
        super().__init__()
        self._place = place
        self._drawn: list[Curve] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(
                visible(f"training in {self._place}"), classes="dialog-title", markup=False
            )
            with VerticalScroll():
                yield Static("reading", id="curves", markup=False)
            yield Static(
                "esc closes; drawn anew as it goes on", classes="dialog-hint", markup=False
            )

    def on_mount(self) -> None:
        self.set_interval(_EVERY, self._look)
        self._look()

    def on_resize(self) -> None:
        self._draw()

    def action_close(self) -> None:
        self.dismiss(None)

    def _look(self) -> None:
        workspace_of(self).tasks.ask(
            self, "curves", lambda _: training_curves(self._place), self._found, self._failed
        )

    def _found(self, curves: list[Curve]) -> None:
        self._drawn = curves
        self._draw()

    def _failed(self, error: EnergyLensError) -> None:
        self.query_one("#curves", Static).update(visible(str(error)))

    def _draw(self) -> None:
        if self._drawn:
            width = max(20, self.query_one(".dialog").size.width - _MARGIN)
            self.query_one("#curves", Static).update("\n".join(_lines(self._drawn, width)))


def _lines(curves: list[Curve], width: int) -> list[str]:
    lines = [f"step {max(step for curve in curves for step in curve.steps):,}"]
    for metric, title in _TITLES.items():
        own = [curve for curve in curves if curve.metric == metric]
        values = [v for curve in own for v in curve.values if math.isfinite(v)]
        if not values:
            continue
        lines += ["", title]
        for curve in own:
            lines.append(visible(f"  {curve.sae}  {ends(curve.values)}"))
            lines.append("  " + curve_line(curve.values, min(values), max(values), width))
    return lines
