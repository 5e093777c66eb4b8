"""Every key of the program, by the id settings remap it with."""

import re

from textual.binding import Binding
from textual.dom import DOMNode
from textual.keys import KEY_NAME_REPLACEMENTS, Keys, key_to_character

_MODIFIER = re.compile(r"(?:ctrl|shift|alt|meta|super|hyper)\+")
_NAMED = {*KEY_NAME_REPLACEMENTS.values(), *(key.value for key in Keys)}


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


def is_key(name: str) -> bool:
    """Whether Textual calls a key so, with `ctrl+` and the like before it or not."""
    if name in _NAMED or len(name) == 1:
        return True
    bare = _MODIFIER.sub("", name)
    return bare in _NAMED or len(bare) == 1 or key_to_character(bare) is not None
