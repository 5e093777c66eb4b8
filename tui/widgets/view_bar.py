"""The top line: which views there are, on which keys, and which one this is."""

from rich.style import Style
from rich.text import Text
from textual import events
from textual.widget import Widget

VIEWS = (
    ("1", "overview", "Overview"),
    ("2", "features", "Features"),
    ("3", "specialists", "Specialists"),
    ("4", "efas", "EFAS"),
    ("5", "coactivation", "Co-activation"),
    ("7", "energy", "Energy"),
    ("8", "sql", "SQL"),
)
"""Key, mode and title of every view."""


class ViewBar(Widget):
    """One line; a click on a view goes there, as its key does."""

    DEFAULT_CSS = """
    ViewBar { height: 1; background: $panel; color: $foreground; }
    """

    def __init__(self, current: str) -> None:
        super().__init__()
        self._current = current

    def render(self) -> Text:
        text = Text(no_wrap=True, overflow="ellipsis")
        for key, mode, title in VIEWS:
            is_here = mode == self._current
            text.append(f" {key} {title} ", Style(bold=is_here, reverse=is_here))
        return text

    def on_click(self, event: events.Click) -> None:
        x = event.x
        for key, mode, title in VIEWS:
            x -= len(key) + len(title) + 3
            if x < 0:
                self.app.switch_mode(mode)
                return
