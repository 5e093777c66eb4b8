"""What is told in passing."""

from collections.abc import Callable

from textual.dom import DOMNode

from energylens.errors import EnergyLensError


def notify(asker: DOMNode) -> Callable[[EnergyLensError], None]:
    """Shows an error as a notice."""
    return lambda error: asker.app.notify(str(error), severity="error", markup=False, timeout=10)
