"""The command line that opens what is seen, to be taken from the screen where no clipboard is."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from energylens.queries.display import visible_lines
from energylens.tui.address import lines_of

_HINT = (
    "sent to the terminal's clipboard by OSC 52 (in tmux: set -s set-clipboard on); or select it "
    "with the mouse, shift held; : takes it too. esc closes"
)


class AddressModal(ModalScreen[None]):
    """Lines as a shell takes them, with nothing beside them that would be selected too."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,at", "close", "Close", id="address.close"),
    ]

    def __init__(self, line: str) -> None:
        super().__init__()
        self._line = line

    def compose(self) -> ComposeResult:
        with Vertical(id="address"):
            yield Static("What opens this", classes="dialog-title", markup=False)
            with VerticalScroll():
                yield Static("", id="address-line", markup=False)
            yield Static(_HINT, classes="dialog-hint", markup=False)

    def on_mount(self) -> None:
        self._draw()

    def on_resize(self) -> None:
        self._draw()

    def _draw(self) -> None:
        lines = "\n".join(lines_of(self._line, self.app.size.width))
        self.query_one("#address-line", Static).update(Text(visible_lines(lines)))

    def action_close(self) -> None:
        self.dismiss(None)
