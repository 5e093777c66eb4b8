"""What is told in passing."""

from collections.abc import Callable
from dataclasses import dataclass

from textual.dom import DOMNode
from textual.message import Message
from textual.widget import Widget

from energylens.errors import EnergyLensError

_SHOWN = 60


@dataclass
class Failed(Message):
    """Something did not work; the app tells of it."""

    text: str


def notify(asker: DOMNode) -> Callable[[EnergyLensError], None]:
    """Has the app tell of an error."""

    def tell(error: EnergyLensError) -> None:
        asker.app.post_message(Failed(str(error)))

    return tell


def copy(asker: Widget, text: str) -> None:
    """Send a text to the terminal's clipboard, and say what may stop it on the way."""
    asker.app.copy_to_clipboard(text)
    begins = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
    asker.notify(
        f"sent {len(text):,} characters by OSC 52: {begins}\n"
        "in tmux they arrive after: set -s set-clipboard on; e writes a file instead",
        markup=False,
        timeout=10,
    )
