"""What stands in place of a table that has nothing: why, and what would make it."""

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widget import Widget

from energylens.queries.display import visible
from energylens.tui.notices import copy


class Lacking(Widget, can_focus=True):
    """Enter makes what is missing where the worker can, and else copies the command."""

    DEFAULT_CSS = """
    Lacking { width: 1fr; height: 1fr; padding: 1 2; color: $foreground; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "make", "Make it", id="lacking.make", tooltip="What is missing here"),
        Binding("y", "copy", "Copy", id="lacking.copy", tooltip="The command that makes it"),
    ]

    class Wanted(Message):
        """What is missing is to be made by the worker."""

    def __init__(self, said: str, command: str, is_made_here: bool) -> None:
        """`command` is empty where nothing needs to be made."""
        super().__init__()
        self._said, self._command, self._is_made_here = said, command, is_made_here

    def render(self) -> Text:
        text = Text(visible(self._said), "bold")
        if self._command:
            text.append(f"\n\n{visible(self._command)}\n\n", "not bold")
            ways = "y copies this command"
            if self._is_made_here:
                ways = f"enter does this here, by the worker; {ways}"
            text.append(ways, "not bold dim")
        return text

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        """Keys are offered where they do something."""
        if action == "make":
            return self._is_made_here
        return action != "copy" or bool(self._command)

    def action_make(self) -> None:
        self.post_message(self.Wanted())

    def action_copy(self) -> None:
        copy(self, self._command)
