"""Why a key opens nothing: said in a screen of its own, so that what is typed behind the key is not
taken for other keys."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from energylens.queries.display import visible_lines


class Cannot(ModalScreen[None]):
    """Closed by enter, which ends a line, and by esc; by no letter."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter", "close", "Close", id="cannot.close"),
    ]

    def __init__(self, why: str) -> None:
        super().__init__()
        self._why = why

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(visible_lines(self._why), classes="cannot", markup=False)
            yield Static("esc or enter closes", classes="dialog-hint", markup=False)

    def action_close(self) -> None:
        self.dismiss(None)
