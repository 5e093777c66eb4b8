"""Energy-Lens: look inside a language model through features and energies.

    import energylens
    store = energylens.open("demo.lens")   # a store that `energylens ingest` made
    store                                  # its runs and SAEs; help(energylens.open) tells the rest

Nothing else is loaded until it is asked for. docs/python.md has the examples.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from energylens.errors import EnergyLensError, UnknownNameError
    from energylens.ingest.whole import ingest
    from energylens.queries.face import open  # noqa: A004

__all__ = ["EnergyLensError", "UnknownNameError", "__version__", "ingest", "open"]
__version__ = "0.2.0"

_HOMES = {
    "EnergyLensError": "energylens.errors",
    "UnknownNameError": "energylens.errors",
    "open": "energylens.queries.face",
}


def __getattr__(name: str) -> object:
    if name == "ingest":  # the package, which can be called
        return import_module("energylens.ingest")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'energylens' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
