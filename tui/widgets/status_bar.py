"""One line that says where one is and what is shown."""

from rich.cells import cell_len, set_cell_size
from rich.text import Text
from textual.widget import Widget

from energylens.queries.display import visible

_SEPARATOR = " · "


class StatusBar(Widget):
    """Parts side by side; what does not fit is cut off at the right end."""

    DEFAULT_CSS = """
    StatusBar { height: 1; background: $panel; color: $foreground; padding: 0 1; }
    """

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._parts: tuple[str, ...] = ()

    def say(self, *parts: str) -> None:
        """Show other parts; empty ones are left out."""
        self._parts = tuple(visible(part) for part in parts if part)
        self.refresh()

    @property
    def text(self) -> str:
        """What is shown."""
        return _SEPARATOR.join(self._parts)

    def render(self) -> Text:
        shown, width = self.text, self.content_size.width
        if cell_len(shown) > width:
            shown = set_cell_size(shown, max(0, width - 1)).rstrip(_SEPARATOR) + "…"
        return Text(shown, no_wrap=True)
