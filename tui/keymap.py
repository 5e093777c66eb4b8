"""Every key of the program, by the id settings remap it with."""

from textual.binding import Binding
from textual.dom import DOMNode


def bindings_by_id() -> dict[str, Binding]:
    """The bindings of every screen and widget of ours that has been imported."""
    found: dict[str, Binding] = {}
    for node in _ours(DOMNode):
        for entry in node.__dict__.get("BINDINGS", ()):
            if isinstance(entry, Binding) and entry.id is not None:
                found.setdefault(entry.id, entry)
    return found


def _ours(base: type[DOMNode]) -> list[type[DOMNode]]:
    """Subclasses that this package defines."""
    found = []
    for node in base.__subclasses__():
        if node.__module__.startswith("energylens.tui."):
            found.append(node)
        found += _ours(node)
    return found
