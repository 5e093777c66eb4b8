"""The filter line of a list: what is typed, and how many rows it leaves."""

from dataclasses import dataclass
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Static

from energylens.queries.display import visible


class FilterBar(Horizontal):
    """Tells what is typed, letter by letter. Enter goes back to the list, esc clears."""

    DEFAULT_CSS = """
    FilterBar { height: 1; background: $surface; }
    FilterBar Static { width: auto; padding: 0 1; color: $text-muted; }
    FilterBar Input { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "clear", "Clear", show=False, id="filter.clear"),
    ]

    @dataclass
    class Typed(Message):
        """The filter has changed."""

        text: str

    class Done(Message):
        """The filter stays as it is."""

    class Cleared(Message):
        """There is no filter any more."""

    def __init__(self, hint: str, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._hint = hint

    def compose(self) -> ComposeResult:
        yield Static("/", markup=False)
        yield Input(placeholder=self._hint, compact=True)
        yield Static("", classes="count", markup=False)

    @property
    def text(self) -> str:
        """What is typed."""
        return self.query_one(Input).value

    def show(self, text: str) -> None:
        """Show a filter."""
        self.display = True
        with self.prevent(Input.Changed):
            self.query_one(Input).value = text

    def open(self, text: str) -> None:
        """Show a filter and let it be typed."""
        self.show(text)
        self.query_one(Input).focus()

    def say(self, text: str) -> None:
        """Say what the filter leaves, or what is wrong with it."""
        self.query_one(".count", Static).update(visible(text))

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self.post_message(self.Typed(event.value))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.post_message(self.Done())

    def action_clear(self) -> None:
        """Take the filter away."""
        self.post_message(self.Cleared())
