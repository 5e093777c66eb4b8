"""What is told in passing."""

from collections.abc import Callable

from textual.dom import DOMNode
from textual.widget import Widget

from energylens.errors import EnergyLensError

_SHOWN = 60
_LONGEST_TOAST = 240


def notify(asker: DOMNode) -> Callable[[EnergyLensError], None]:
    """Shows an error: a short one in passing, a long one to be read and copied."""

    def tell(error: EnergyLensError) -> None:
        from energylens.tui.modals.cell import CellModal  # it says with `copy` what it has sent

        text = str(error)
        if len(text) > _LONGEST_TOAST:
            asker.app.push_screen(CellModal("This did not work", text))
        else:
            asker.app.notify(text, severity="error", markup=False, timeout=10)

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
