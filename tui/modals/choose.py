"""Choose one of a list."""

from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from energylens.queries.display import visible, visible_lines

T = TypeVar("T")


class Choose(ModalScreen[T | None], Generic[T]):
    """Enter takes the entry under the cursor, esc none."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "none", "Cancel", id="choose.cancel"),
    ]

    def __init__(self, title: str, entries: Sequence[tuple[str, T]], current: int = 0) -> None:
        super().__init__()
        self._title, self._entries, self._current = title, entries, current

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(visible(self._title), classes="dialog-title", markup=False)
            yield OptionList(*(Option(Text(visible_lines(label))) for label, _ in self._entries))

    def on_mount(self) -> None:
        options = self.query_one(OptionList)
        options.highlighted = self._current if self._entries else None
        options.focus()

    @on(OptionList.OptionSelected)
    def _selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._entries[event.option_index][1])

    def action_none(self) -> None:
        self.dismiss(None)
