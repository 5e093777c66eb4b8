"""What the screen is about, and what every key does where the cursor is."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Markdown, Static


class HelpModal(ModalScreen[None]):
    """Scrolls like any list; esc, q and ? close it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1", "close", "Close", id="help.close"),
        Binding("j", "scroll(1)", "Down", show=False, id="help.down"),
        Binding("k", "scroll(-1)", "Up", show=False, id="help.up"),
    ]

    def __init__(self, text: str, active: Sequence[ActiveBinding]) -> None:
        """`text` is ours, in Markdown; `active` are the keys that did something before."""
        super().__init__()
        self._text, self._active = text, active

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            with VerticalScroll(id="help"):
                yield Markdown(self._text, open_links=False)
                yield Static(self._keys(), markup=False)
            yield Static("esc closes, arrows scroll", classes="dialog-hint", markup=False)

    def on_mount(self) -> None:
        self.query_one("#help").focus()

    def _keys(self) -> Text:
        """A line for each key, those that act on what is in focus first."""
        shown, told = Text(), set()
        shown.append("Keys here\n", "bold")
        for active in self._active:
            binding = active.binding
            what = binding.tooltip or binding.description
            if not active.enabled or not what or (binding.action, binding.id) in told:
                continue
            told.add((binding.action, binding.id))
            shown.append(f"{self._spelled(binding):>16}  ", "bold")
            shown.append(f"{binding.description or what:<14}")
            shown.append(f" {what if what != binding.description else ''}\n", "dim")
        return shown

    def _spelled(self, binding: Binding) -> str:
        """All the keys of a binding, as they are written on a keyboard."""
        same = [a.binding for a in self._active if a.binding.id == binding.id and binding.id]
        return " ".join(dict.fromkeys(self.app.get_key_display(b) for b in same or [binding]))

    def action_close(self) -> None:
        self.dismiss(None)

    def action_scroll(self, by: int) -> None:
        self.query_one("#help", VerticalScroll).scroll_relative(y=by, animate=False)
