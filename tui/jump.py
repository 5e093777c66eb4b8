"""What a line of words leads to: `:` goes there.

features, specialists, sql ...   a view, by its name, its first letters or its key
1234, feature 1234               a feature of the SAE in view
text 12                          a text of its run, token by token
sae blocks.2                     another SAE, by a part of its name
run gpt2                         another run, by a part of its name
starred, notes, labels           features with a star, with a note, with an explanation
prompt, heads, graphs, compute   what their keys do
--view efas --filter "q<.05"     what the command line takes, or a whole line that @ copied
"""

from dataclasses import dataclass
from typing import Literal

from energylens.errors import QueryError
from energylens.tui.address import is_address
from energylens.tui.state import Selection
from energylens.tui.widgets.view_bar import VIEWS

FILTERS = {"starred": "is_starred=yes", "notes": 'note~"."', "labels": 'label~"."'}
ACTIONS = {
    "prompt": "app.prompt",
    "heads": "app.heads",
    "map": "app.map",
    "graphs": "app.graphs",
    "compute": "screen.recompute",
    "export": "screen.export",
    "shared": "screen.take_in_list",
    "reread": "screen.read_again",
    "help": "app.help",
    "quit": "app.quit",
}
_NUMBERED = ("feature", "features", "text", "texts")


@dataclass(frozen=True)
class Jump:
    """Where to go."""

    kind: Literal["view", "feature", "text", "sae", "run", "query", "filter", "action", "address"]
    name: str = ""
    """The view's mode, words of the SAE's or run's name, the query, the filter, the action, or the
    whole line of an address."""
    number: int = -1
    """The feature or the text."""
    selection: Selection | None = None
    """The SAE to look at; None stays with the one in view."""


def parse_jump(line: str) -> Jump:
    """Where a line leads.

    Raises:
        QueryError: the line cannot be read; the message says what can be.
    """
    if is_address(line):
        return Jump("address", line.strip())
    words = line.strip().lower().split(maxsplit=1)
    if not words:
        raise QueryError(f"type where to go: {_known()}")
    word, rest = words[0], words[1] if len(words) > 1 else ""
    if word.isdigit() and not rest and len(word) > 1:
        return Jump("feature", number=int(word))
    if word == "sae" or word == "run":
        return Jump(word, rest)
    if word in _NUMBERED and rest:
        if not rest.isdigit():
            raise QueryError(f"'{word}' takes a number, not '{rest}'")
        return Jump("text" if word.startswith("t") else "feature", number=int(rest))
    return _named(word, rest)


def _named(word: str, rest: str) -> Jump:
    """A view, a filter or an action, by its beginning."""
    names = {mode: Jump("view", mode) for _, mode, _, _ in VIEWS}
    names |= {name: Jump("filter", text) for name, text in FILTERS.items()}
    names |= {name: Jump("action", action) for name, action in ACTIONS.items()}
    keys = {key: names[mode] for key, mode, _, _ in VIEWS}
    found = [word] if word in names else [name for name in names if name.startswith(word)]
    if rest or (len(found) != 1 and word not in keys):
        said = f"'{word}' could be {' or '.join(found)}" if len(found) > 1 else f"no '{word}'"
        raise QueryError(f"{said}; there are: {_known()}")
    return keys[word] if word in keys else names[found[0]]


def _known() -> str:
    views = ", ".join(mode for _, mode, _, _ in VIEWS)
    more = ", ".join([*FILTERS, *ACTIONS])
    return f"{views}; feature 12, text 3, sae NAME, run NAME; {more}"
