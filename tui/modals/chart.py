"""Columns of a table drawn."""

from typing import ClassVar

import polars as pl
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from energylens.queries.display import visible
from energylens.tui.widgets.chart import is_number, kinds_of


class ChartModal(ModalScreen[None]):
    """x and y take the next column, t draws another way; esc, enter and q close it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "turn_x", "x", id="chart.x", tooltip="The next column"),
        Binding("y", "turn_y", "y", id="chart.y", tooltip="The next number, or none"),
        Binding("t", "turn_kind", "Kind", id="chart.kind", tooltip="Histogram, bars, line"),
        Binding("escape,enter,q,c", "close", "Close", id="chart.close"),
    ]

    def __init__(self, rows: pl.DataFrame, column: str) -> None:
        """`column` is drawn from left to right, against the next number beside it."""
        super().__init__()
        self._rows, self._x = rows, column
        self._numbers = [name for name in rows.columns if is_number(rows[name])]
        place = rows.columns.index(column)
        others = [n for n in (*rows.columns[place + 1 :], *rows.columns) if n in self._numbers]
        self._y = next((name for name in others if name != column), None)
        self._kind = 0

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("", id="chart-title", classes="dialog-title", markup=False)
            yield Static("", id="chart", markup=False)
            yield Static(
                "x, y: other columns, t: drawn another way, esc closes",
                classes="dialog-hint",
                markup=False,
            )

    def on_mount(self) -> None:
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        x, y = self._rows[self._x], None if self._y is None else self._rows[self._y]
        kinds = list(kinds_of(x, y).items())
        name, draw = kinds[self._kind % len(kinds)]
        width = min(self.app.size.width * 8 // 10, 100) - 8
        height = max(4, min(self.app.size.height * 8 // 10 - 8, 30))
        columns = [self._x, *([] if self._y is None else [self._y])]
        told = f"{name}: {', '.join(map(visible, columns))}"
        self.query_one("#chart-title", Static).update(told)
        self.query_one("#chart", Static).update(draw(x, y, width, height))

    def action_turn_x(self) -> None:
        """Draw the next column."""
        names = self._rows.columns
        self._x = names[(names.index(self._x) + 1) % len(names)]
        self._y = None if self._y == self._x else self._y
        self._draw()

    def action_turn_y(self) -> None:
        """Draw against the next number; after the last, against none."""
        choices = [None, *(name for name in self._numbers if name != self._x)]
        here = choices.index(self._y) if self._y in choices else 0
        self._y = choices[(here + 1) % len(choices)]
        self._draw()

    def action_turn_kind(self) -> None:
        """Draw another way."""
        self._kind += 1
        self._draw()

    def action_close(self) -> None:
        self.dismiss(None)
