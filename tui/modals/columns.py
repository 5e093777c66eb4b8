"""Choose which columns a list shows, and in which order."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from energylens.queries.display import visible


@dataclass(frozen=True)
class Columns:
    """Names of columns: those shown, in their order, and those that are not."""

    shown: tuple[str, ...]
    hidden: tuple[str, ...]


class ColumnsModal(ModalScreen[Columns | None]):
    """Space shows or hides the one under the cursor, J and K move it; enter keeps, esc does not."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "none", "Cancel", id="columns.cancel"),
        Binding("space", "turn", "Show", id="columns.turn", tooltip="Show it, or hide it"),
        Binding("J,shift+down", "shift(1)", "Later", id="columns.later"),
        Binding("K,shift+up", "shift(-1)", "Earlier", id="columns.earlier"),
        Binding("r", "reset", "Reset", id="columns.reset", tooltip="All, in their own order"),
        Binding("enter", "keep", "Keep", priority=True, id="columns.keep"),
    ]

    def __init__(self, now: Columns, titles: dict[str, str], current: str) -> None:
        super().__init__()  # titles stand in the list's own order
        self._names = [*now.shown, *now.hidden]
        self._hidden = set(now.hidden)
        self._titles, self._current = titles, current

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog choose"):
            yield Static("Columns", classes="dialog-title", markup=False)
            yield OptionList(markup=False)
            yield Static("", classes="dialog-hint", markup=False)

    def on_mount(self) -> None:
        self.query_one(OptionList).focus()
        self._draw(self._names.index(self._current))

    def _draw(self, place: int) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(self._line(name)) for name in self._names)
        options.highlighted = place
        n, of = len(self._names) - len(self._hidden), len(self._names)
        hint = f"{n} of {of} · space shows or hides, J K move, r resets, enter keeps"
        self.query_one(".dialog-hint", Static).update(hint)

    def _line(self, name: str) -> str:
        title = self._titles[name]
        beside = f"  {visible(name)}" if name != title else ""
        return f"[{' ' if name in self._hidden else 'x'}] {visible(title)}{beside}"

    def action_turn(self) -> None:
        """Show the column, or hide it; the last one stays."""
        place = self.query_one(OptionList).highlighted or 0
        name = self._names[place]
        if name in self._hidden:
            self._hidden.remove(name)
        elif len(self._hidden) < len(self._names) - 1:
            self._hidden.add(name)
        self._draw(place)

    def action_shift(self, by: int) -> None:
        """Move the column."""
        place = self.query_one(OptionList).highlighted or 0
        to = max(0, min(place + by, len(self._names) - 1))
        self._names.insert(to, self._names.pop(place))
        self._draw(to)

    def action_reset(self) -> None:
        """Show all, in the order the list gives them."""
        at = self._names[self.query_one(OptionList).highlighted or 0]
        self._names, self._hidden = list(self._titles), set()
        self._draw(self._names.index(at))

    def action_keep(self) -> None:
        shown = tuple(name for name in self._names if name not in self._hidden)
        hidden = tuple(name for name in self._names if name in self._hidden)
        self.dismiss(Columns(shown, hidden))

    def action_none(self) -> None:
        self.dismiss(None)


def as_told(columns: Columns) -> list[str]:
    """As the settings hold them: hidden ones with a - before them."""
    return [*columns.shown, *(f"-{name}" for name in columns.hidden)]


def from_told(told: Sequence[str]) -> Columns:
    """What the settings hold."""
    shown = tuple(name for name in told if not name.startswith("-"))
    return Columns(shown, tuple(name[1:] for name in told if name.startswith("-")))


def place_in(first: Sequence[str], name: str) -> int:
    """Where a column stands among those that are named first; behind them all others."""
    return first.index(name) if name in first else len(first)
