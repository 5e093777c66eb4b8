"""The bottom line: which keys do what here, now.

Textual's Footer mounts a widget for each key at every change of focus, and its parent never lets go
of them: after some thousand keys that is hundreds of megabytes. This one draws a line.
"""

from collections.abc import Iterator
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.screen import Screen
from textual.widget import Widget

_LAST = ("help", "jump_from_editor", "command_palette")
"""Actions that are never left out."""


class KeyBar(Widget):
    """A click on a key does what the key does. Keys that do not fit are left out from the right,
    but never help and the palette, which have all of them."""

    DEFAULT_CSS = """
    KeyBar { height: 1; background: $footer-background; color: $footer-foreground; }
    KeyBar > .key-bar--key { color: $footer-key-foreground; text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"key-bar--key"}

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, _: Screen) -> None:
        self.refresh()

    def render(self) -> Text:
        key_style = self.get_component_rich_style("key-bar--key", partial=True)
        text = Text(no_wrap=True, overflow="ellipsis")
        for shown, binding in self._fitting():
            text.append(f" {shown}", key_style)
            text.append(f" {binding.description}")
        return text

    def _fitting(self) -> list[tuple[str, Binding]]:
        """The entries there is room for."""
        entries = list(self._entries())
        last = [entry for entry in entries if entry[1].action in _LAST]
        left, found = self.size.width - sum(_width(*entry) for entry in last), []
        for entry in entries:
            if entry in last:
                continue
            left -= _width(*entry)
            if left < 0:
                break
            found.append(entry)
        return [*found, *last]

    def _entries(self) -> Iterator[tuple[str, Binding]]:
        """How each key is written, with its binding: one for each action, the palette last."""
        palette, seen = self.app.COMMAND_PALETTE_BINDING, set()
        active = self.screen.active_bindings
        for key, entry in active.items():
            binding = entry.binding
            if key != palette and binding.show and entry.enabled and binding.action not in seen:
                seen.add(binding.action)
                yield self.app.get_key_display(binding), binding
        if palette in active:
            yield self.app.get_key_display(active[palette].binding), active[palette].binding

    async def on_click(self, event: events.Click) -> None:
        x = event.x
        for shown, binding in self._fitting():
            x -= _width(shown, binding)
            if x < 0:
                self.app.simulate_key(binding.key)
                return


def _width(shown: str, binding: Binding) -> int:
    return Text(f" {shown} {binding.description}").cell_len
