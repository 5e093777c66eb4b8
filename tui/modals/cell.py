"""The whole value of one cell."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from energylens.queries.display import visible, visible_lines
from energylens.tui.notices import copy


class CellModal(ModalScreen[None]):
    """Shows a value; any of esc, enter, space and q closes it, y copies it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,space,q", "close", "Close", id="cell.close"),
        Binding("y", "copy", "Copy", id="cell.copy"),
    ]

    def __init__(self, title: str, value: str) -> None:
        super().__init__()
        self._title, self._value = title, value

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(visible(self._title), classes="dialog-title", markup=False)
            with VerticalScroll():
                yield Static(visible_lines(self._value), markup=False)
            yield Static("esc closes, y copies", classes="dialog-hint", markup=False)

    def action_close(self) -> None:
        self.dismiss(None)

    def action_copy(self) -> None:
        copy(self, self._value)
