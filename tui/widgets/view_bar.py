"""The top line: which views there are, on which keys, and which one this is."""

from collections.abc import Iterator

from rich.style import Style
from rich.text import Text
from textual import events
from textual.widget import Widget

VIEWS = (
    ("1", "overview", "Overview", "Over"),
    ("2", "features", "Features", "Feat"),
    ("3", "specialists", "Specialists", "Spec"),
    ("4", "efas", "EFAS", "EFAS"),
    ("5", "coactivation", "Co-activation", "Coact"),
    ("6", "routing", "Routing", "Route"),
    ("7", "energy", "Energy", "Energy"),
    ("8", "sql", "SQL", "SQL"),
    ("9", "jobs", "Jobs", "Jobs"),
)
"""Key, mode, title and short title of every view."""
_WIDE = 100
"""Cells from which every title is written out."""


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
        for _, is_here, label in self._labels():
            text.append(label, Style(bold=is_here, reverse=is_here))
        return text

    def _labels(self) -> Iterator[tuple[str, bool, str]]:
        """Mode, whether this is it, and what is written: in full where there is room."""
        needed = sum(len(f" {key} {short} ") for key, _, _, short in VIEWS)
        for key, mode, title, short in VIEWS:
            is_here = mode == self._current
            fits = needed + len(title) - len(short) <= self.size.width
            name = title if self.size.width >= _WIDE or (is_here and fits) else short
            yield mode, is_here, f" {key} {name} "

    def on_click(self, event: events.Click) -> None:
        x = event.x
        for mode, _, label in self._labels():
            x -= len(label)
            if x < 0:
                self.app.switch_mode(mode)
                return
