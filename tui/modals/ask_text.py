"""Ask for a line or a paragraph."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static, TextArea


class AskText(ModalScreen[str | None]):
    """ctrl+j or F5 takes the text, esc none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5,ctrl+j,ctrl+enter", "take", "Take", priority=True, id="ask.take"),
        Binding("escape", "none", "Cancel", id="ask.cancel"),
    ]

    def __init__(self, title: str, text: str = "") -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._title, classes="dialog-title", markup=False)
            yield TextArea(self._text, id="asked", soft_wrap=True)
            yield Static(
                "F5 or ctrl+j runs it, esc leaves; F1 help, ctrl+g to any view",
                classes="dialog-hint",
                markup=False,
            )

    def on_mount(self) -> None:
        area = self.query_one(TextArea)
        area.focus()
        area.move_cursor(area.document.end)

    def action_take(self) -> None:
        self.dismiss(self.query_one(TextArea).text)

    def action_none(self) -> None:
        self.dismiss(None)
