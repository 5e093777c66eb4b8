"""What is shown while the terminal is too small for anything else."""

from textual.app import ComposeResult
from textual.screen import ModalScreen
from textual.widgets import Static

SMALLEST = (60, 15)
"""Columns and lines below which nothing is drawn but a message."""


class TooSmall(ModalScreen[None]):
    """Says how large the terminal must be, and how large it is."""

    DEFAULT_CSS = """
    TooSmall { align: center middle; background: $background; }
    TooSmall Static { width: auto; }
    """

    def compose(self) -> ComposeResult:
        yield Static(markup=False)

    def on_mount(self) -> None:
        self._say()

    def on_resize(self) -> None:
        self._say()

    def _say(self) -> None:
        needed, size = f"{SMALLEST[0]}x{SMALLEST[1]}", self.app.size
        self.query_one(Static).update(f"needs {needed}, is {size.width}x{size.height}")
