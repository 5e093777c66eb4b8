"""Choose one of a list, which letters make shorter."""

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from energylens.queries.display import visible, visible_lines
from energylens.tui.fuzzy import Entry, Found, ranked

T = TypeVar("T")
MOST = 200
"""Entries that are drawn at once."""


class Choose(ModalScreen[T | None], Generic[T]):
    """Letters find entries, enter takes the one under the cursor, esc none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "none", "Cancel", id="choose.cancel"),
        Binding("down,ctrl+n", "move(1)", "Down", show=False, id="choose.down"),
        Binding("up", "move(-1)", "Up", show=False, id="choose.up"),
        Binding("pagedown", "move(10)", "Page down", show=False, id="choose.page_down"),
        Binding("pageup", "move(-10)", "Page up", show=False, id="choose.page_up"),
    ]

    def __init__(self, title: str, entries: Sequence[Entry[T]], current: int = 0) -> None:
        super().__init__()
        self._title, self._entries, self._current = title, entries, current
        self._found: list[Found[T]] = []
        self.is_moved = False
        """Whether keys have moved the cursor since the last letter."""

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog choose"):
            yield Static(visible(self._title), classes="dialog-title", markup=False)
            yield Input(placeholder="letters find an entry", compact=True, id="letters")
            yield OptionList()
            yield Static("", classes="choose-more", markup=False)
            yield Static("", classes="dialog-hint", markup=False)

    def on_mount(self) -> None:
        self.query_one(OptionList).can_focus = False
        self.query_one(Input).focus()
        self.show(ranked(self._entries, ""), self._current)

    def show(self, found: list[Found[T]], current: int = 0) -> None:
        """Draw what was found."""
        self._found = found
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options(Option(line_of(one)) for one in found[:MOST])
        options.highlighted = min(current, len(found) - 1) if found else None
        n, of = len(found), self.n_all
        self.query_one(".dialog-hint", Static).update(f"{n:,} of {of:,} · {self.hint}")
        self._tell()

    @property
    def n_all(self) -> int:
        """Entries there are."""
        return len(self._entries)

    @property
    def chosen(self) -> Entry[T] | None:
        """The entry under the cursor."""
        place = self.query_one(OptionList).highlighted
        return None if place is None else self._found[place].entry

    @property
    def hint(self) -> str:
        """What keys do here."""
        return "enter takes it, esc leaves"

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self.is_moved = False
        self.typed(event.value)

    def typed(self, letters: str) -> None:
        """Show what letters find."""
        self.show(ranked(self._entries, letters), 0 if letters.strip() else self._current)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if self.chosen is not None:
            self.dismiss(self.chosen.value)

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._found[event.option_index].entry.value)

    @on(OptionList.OptionHighlighted)
    def _tell(self) -> None:
        """Tell all of the entry under the cursor."""
        more = self.chosen.more if self.chosen is not None else ""
        about = self.query_one(".choose-more", Static)
        about.display = bool(more)
        about.update(visible_lines(more))

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        options = self.query_one(OptionList)
        if options.option_count:
            self.is_moved = True
            place = (options.highlighted or 0) + by
            options.highlighted = max(0, min(place, options.option_count - 1))

    def action_none(self) -> None:
        self.dismiss(None)


def line_of(found: Found) -> Text:
    """An entry on one line, its kind before it, with the letters that were found in bold."""
    entry = found.entry
    line = Text(f"{entry.kind:<9}" if entry.kind else "", "dim")
    for place, character in enumerate(entry.title):
        line.append(visible(character), "bold underline" if place in found.places else "")
    if entry.about:
        line.append(f"  {visible(entry.about)}", "dim")
    return line
