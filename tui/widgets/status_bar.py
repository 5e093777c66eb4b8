"""One line that says where one is and what is shown."""

from rich.text import Text
from textual.widget import Widget


class StatusBar(Widget):
    """Parts side by side; parts that do not fit fall off the right end."""

    DEFAULT_CSS = """
    StatusBar { height: 1; background: $panel; color: $foreground; padding: 0 1; }
    """

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._parts: tuple[str, ...] = ()

    def say(self, *parts: str) -> None:
        """Show other parts; empty ones are left out."""
        self._parts = tuple(part for part in parts if part)
        self.refresh()

    @property
    def text(self) -> str:
        """What is shown."""
        return " · ".join(self._parts)

    def render(self) -> Text:
        return Text(self.text, no_wrap=True, overflow="ellipsis")
