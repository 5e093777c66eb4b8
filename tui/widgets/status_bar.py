"""Where one is and what is shown: one line on a wide screen, two on a narrow one."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.widget import Widget

from energylens.queries.display import visible

_SEPARATOR = " · "
_BETWEEN = " / "
_LEAST_NAME = 8
"""Cells that are left of a name, however little room there is."""


class StatusBar(Widget):
    """Names of run and SAE, and parts side by side. Names are cut in their middle, so that their
    beginning and their end are read; of the parts the right end goes first."""

    DEFAULT_CSS = """
    StatusBar { height: 2; background: $panel; color: $foreground; padding: 0 1; }
    """

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._parts: tuple[str, ...] = ()
        self._names: tuple[str, ...] = ()

    def say(self, *parts: str) -> None:
        """Show other parts; empty ones are left out."""
        self._parts = tuple(visible(part) for part in parts if part)
        self.refresh()

    def stand_at(self, names: Sequence[str]) -> None:
        """Show another place: a run, and an SAE of it."""
        self._names = tuple(map(visible, names))
        self.refresh()

    @property
    def text(self) -> str:
        """What is shown beside the place."""
        return _SEPARATOR.join(self._parts)

    def render(self) -> Text:
        width = self.content_size.width
        if self.content_size.height > 1:
            shown = f"{_place(self._names, width)}\n{_cut(self.text, width)}"
        else:
            place = _place(self._names, max(width // 2, width - cell_len(self.text) - 2))
            said = _cut(self.text, width - cell_len(place) - 2)
            shown = said + " " * (width - cell_len(said) - cell_len(place)) + place
        return Text(shown, no_wrap=True)


def _cut(text: str, width: int) -> str:
    if cell_len(text) <= width:
        return text
    return set_cell_size(text, max(0, width - 1)).rstrip(_SEPARATOR) + "…"


def _place(names: Sequence[str], width: int) -> str:
    """The names side by side, the longest of them cut in its middle until they fit."""
    held = list(names)
    while cell_len(_BETWEEN.join(held)) > width:
        longest = max(range(len(held)), key=lambda n: cell_len(held[n]))
        over = cell_len(_BETWEEN.join(held)) - width
        left = max(_LEAST_NAME, cell_len(held[longest]) - over)
        others = [cell_len(name) for n, name in enumerate(held) if n != longest]
        wanted = max(left, min(max(others, default=0), cell_len(held[longest]) - 1))
        if cell_len(held[longest]) <= _LEAST_NAME:
            return _cut(_BETWEEN.join(held), width)
        held[longest] = _middle(held[longest], min(wanted, cell_len(held[longest]) - 1))
    return _BETWEEN.join(held)


def _middle(name: str, width: int) -> str:
    """A name without its middle; where wide characters stand in it, without its end."""
    if not name.replace("…", "").isascii():
        return _cut(name, width)
    head = (width - 1) // 2
    return f"{name[:head]}…{name[len(name) - (width - 1 - head) :]}"
