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
_BESIDE = {
    "heads": ("0", "heads", "Heads", "Heads"),
    "graphs": ("W", "graphs", "Graphs", "Graph"),
}
"""What opens over a view, and is left out first where there is no room."""
_Label = tuple[str, bool, str]


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

    def _labels(self) -> list[_Label]:
        """Mode, whether this is it, and what is written: as much as there is room for."""
        ways = list(self._ways())
        fitting = (way for way in ways if sum(len(label) for *_, label in way) <= self.size.width)
        return next(fitting, ways[-1])

    def _ways(self) -> Iterator[list[_Label]]:
        """The labels in full, shorter and shorter; every view has its key in all of them."""
        beside = [_BESIDE[self._current]] if self._current in _BESIDE else []
        offered = beside or [_BESIDE["heads"]]
        for is_whole, is_whole_here in ((True, True), (False, True), (False, False)):
            for views in ([*VIEWS, *offered], [*VIEWS, *beside]):
                yield [
                    (mode, here := mode == self._current,
                     f" {key} {title if is_whole or (here and is_whole_here) else short} ")
                    for key, mode, title, short in views
                ]  # fmt: skip
        views = [*VIEWS, *beside]
        for letters in (3, 0):
            yield [
                (mode, here := mode == self._current,
                 f" {key} {short} " if here else f" {key} {short[:letters]}".rstrip())
                for key, mode, _, short in views
            ]  # fmt: skip

    async def on_click(self, event: events.Click) -> None:
        x = event.x
        for mode, _, label in self._labels():
            x -= len(label)
            if x < 0 and mode in _BESIDE:
                await self.app.run_action(f"app.{mode}")
                return
            if x < 0:
                self.app.switch_mode(mode)
                return
