"""Ask for one line."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from energylens.queries.display import visible


class AskLine(ModalScreen[str | None]):
    """Enter takes the line, esc none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "none", "Cancel", id="line.cancel"),
    ]

    def __init__(self, title: str, text: str = "", hint: str = "") -> None:
        super().__init__()
        self._title, self._text, self._hint = title, text, hint

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(visible(self._title), classes="dialog-title", markup=False)
            yield Input(self._text, id="line")
            yield Static(self._hint, classes="dialog-hint", markup=False)
            yield Static("F1 help, ctrl+g to any view", classes="dialog-keys", markup=False)

    @on(Input.Submitted)
    def _taken(self, event: Input.Submitted) -> None:
        self.dismiss(event.value)

    def action_none(self) -> None:
        self.dismiss(None)
