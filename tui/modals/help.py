"""What the screen is about, and what every key does where the cursor is."""

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import ActiveBinding, Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Input, Markdown, Static

from energylens.tui.fuzzy import Entry, ranked


class HelpModal(ModalScreen[None]):
    """Scrolls like any list; / finds keys by letters; esc, q and ? close it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,question_mark,f1", "close", "Close", id="help.close"),
        Binding("j", "scroll(1)", "Down", show=False, id="help.down"),
        Binding("k", "scroll(-1)", "Up", show=False, id="help.up"),
        Binding("slash", "find", "Find", show=False, id="help.find", tooltip="Keys by letters"),
    ]

    def __init__(self, text: str, active: Sequence[ActiveBinding]) -> None:
        """`text` is ours, in Markdown; `active` are the keys that did something before."""
        super().__init__()
        self._text, self._active = text, active

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Input(placeholder="letters of a key or of what it does", compact=True)
            with VerticalScroll(id="help"):
                yield Markdown(self._text, open_links=False)
                yield Static("", id="help-keys", markup=False)
            yield Static("", classes="dialog-hint", markup=False)

    def on_mount(self) -> None:
        self.query_one(Input).display = False
        self.query_one("#help").focus()
        self._keys = self._entries()
        self._show("")

    def _show(self, letters: str) -> None:
        """Show the keys that letters find, with what the screen is about where there are none."""
        found = ranked(self._keys, letters)
        self.query_one(Markdown).display = not letters.strip()
        shown = Text("Keys here\n", "bold")
        for one in found:
            name, what = one.entry.value
            shown.append(f"{one.entry.kind:>16}  ", "bold").append(f"{name:<14}")
            shown.append(f" {what if what != name else ''}\n", "dim")
        self.query_one("#help-keys", Static).update(shown)
        count = f"{len(found)} of {len(self._keys)} keys"
        self.query_one(".dialog-hint", Static).update(f"{count} · / finds one, esc closes")

    def _entries(self) -> list[Entry[tuple[str, str]]]:
        """An entry for each key, those that act on what is in focus first."""
        entries, told = [], set()
        for active in self._active:
            binding = active.binding
            what = binding.tooltip or binding.description
            if not active.enabled or not what or (binding.action, binding.id) in told:
                continue
            told.add((binding.action, binding.id))
            name = binding.description or what
            entries.append(Entry(name, (name, what), what, self._spelled(binding)))
        return entries

    def _spelled(self, binding: Binding) -> str:
        """All the keys of a binding, as they are written on a keyboard."""
        same = [a.binding for a in self._active if a.binding.id == binding.id and binding.id]
        return " ".join(dict.fromkeys(self.app.get_key_display(b) for b in same or [binding]))

    def action_find(self) -> None:
        """Let letters be typed that keys are found by."""
        self.query_one(Input).display = True
        self.query_one(Input).focus()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        event.stop()
        self._show(event.value)

    def action_close(self) -> None:
        """Close the line of letters; then the help."""
        line = self.query_one(Input)
        if line.display:
            line.value, line.display = "", False
            self.query_one("#help").focus()
        else:
            self.dismiss(None)

    def action_scroll(self, by: int) -> None:
        self.query_one("#help", VerticalScroll).scroll_relative(y=by, animate=False)
