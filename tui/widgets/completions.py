"""What may be written at the cursor, in a box below it."""

from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.geometry import Offset
from textual.widget import Widget

from energylens.queries.completion import Candidate
from energylens.queries.display import visible

_MOST = 8
"""Rows that are shown at once."""
_WIDEST = 60


class Completions(Widget):
    """A list with one row chosen; who has the focus moves it."""

    DEFAULT_CSS = """
    Completions {
        position: absolute; layer: popup; display: none; width: auto; height: auto;
        background: $surface; color: $foreground; border: none;
    }
    Completions > .completions--chosen { background: $primary; color: $text; text-style: bold; }
    Completions > .completions--note { color: $text-muted; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"completions--chosen", "completions--note"}
    can_focus = False

    def __init__(self) -> None:
        super().__init__()
        self._candidates: tuple[Candidate, ...] = ()
        self._chosen = 0

    @property
    def is_open(self) -> bool:
        """Whether there is something to choose."""
        return self.display

    @property
    def chosen(self) -> Candidate:
        """The candidate under the bar."""
        return self._candidates[self._chosen]

    def open(self, candidates: tuple[Candidate, ...], cursor: Offset) -> None:
        """Show candidates below a cursor, or above where there is no room below."""
        self._candidates, self._chosen = candidates, 0
        room = self.screen.size
        lines = self._lines()
        height, width = len(lines), max(line.cell_len for line in lines)
        below = cursor.y + 1 + height <= room.height - 2
        x = max(0, min(cursor.x, room.width - width))
        self.styles.offset = (x, cursor.y + 1 if below else max(0, cursor.y - height))
        self.display = True
        self.refresh(layout=True)

    def close(self) -> None:
        """Take it away."""
        self.display = False

    def move(self, by: int) -> None:
        """Choose another one, round the ends."""
        self._chosen = (self._chosen + by) % len(self._candidates)
        self.refresh(layout=True)

    def render(self) -> Text:
        return Text("\n").join(self._lines())

    def _lines(self) -> list[Text]:
        first = max(0, min(self._chosen - _MOST // 2, len(self._candidates) - _MOST))
        shown = self._candidates[first : first + _MOST]
        names = [visible(one.text) for one in shown]
        wide = min(max((Text(name).cell_len for name in names), default=0), _WIDEST // 2)
        lines = []
        for place, (one, name) in enumerate(zip(shown, names, strict=True), first):
            line = Text(f" {name:<{wide}}", no_wrap=True)
            line.append(f"  {visible(one.note) or one.kind} ", self._style("note"))
            line.truncate(_WIDEST, overflow="ellipsis")
            if place == self._chosen:
                line.stylize(self._style("chosen"))
            lines.append(line)
        if len(self._candidates) > _MOST:
            lines.append(
                Text(f" {self._chosen + 1} of {len(self._candidates)}", self._style("note"))
            )
        widest = max((line.cell_len for line in lines), default=0)
        for line in lines:
            line.pad_right(widest - line.cell_len)
        return lines

    def _style(self, name: str) -> Style:
        return self.get_component_rich_style(f"completions--{name}", partial=True)
