"""A few lines that each lead somewhere, gone along by keyboard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget


@dataclass(frozen=True)
class Link:
    """One line; `leads` is whether it can be opened: headings cannot."""

    text: Text
    leads: bool = True


class Links(Widget, can_focus=False):
    """Takes no room while it has no line, and focus only when asked to: what is removed beside it
    hands focus on to whatever takes it."""

    DEFAULT_CSS = """
    Links { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="links.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="links.down"),
        Binding("enter", "choose", "Open", id="links.open", tooltip="What the line leads to"),
    ]

    @dataclass
    class Chosen(Message):
        """Enter was pressed on a line: the how manieth of those that lead somewhere."""

        number: int

    def __init__(self, classes: str) -> None:
        super().__init__(classes=classes)
        self._lines: Sequence[Link] = ()
        self.at = 0

    @property
    def n(self) -> int:
        """How many lines lead somewhere."""
        return sum(line.leads for line in self._lines)

    def show(self, lines: Sequence[Link]) -> None:
        """Show other lines, the cursor on the first."""
        self._lines, self.at = lines, 0
        self.refresh(layout=True)

    def enter(self) -> None:
        """Take the focus, and come into view."""
        self.can_focus = True
        self.focus(scroll_visible=False)
        self.call_after_refresh(self.scroll_visible, animate=False)

    def render(self) -> Text:
        shown, number, width = Text(no_wrap=True), 0, self.content_size.width
        for place, line in enumerate(self._lines):
            text = line.text.copy()
            text.truncate(max(1, width), overflow="ellipsis")
            if line.leads and number == self.at and self.has_focus:
                text.stylize(Style(reverse=True))
            number += line.leads
            shown.append("\n" if place else "").append_text(text)
        return shown

    def action_move(self, by: int) -> None:
        """Go a line up or down; at the ends nothing lies further."""
        self.at = max(0, min(self.at + by, self.n - 1))
        self.refresh()

    def action_choose(self) -> None:
        if self.n:
            self.post_message(self.Chosen(self.at))

    def on_click(self, event: events.Click) -> None:
        if 0 <= event.y < len(self._lines) and self._lines[event.y].leads:
            self.at = sum(line.leads for line in self._lines[: event.y])
            self.refresh()
            if event.chain > 1:
                self.action_choose()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.can_focus = not self.screen.is_current  # another screen gives it back
        self.refresh()
