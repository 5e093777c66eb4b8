"""An editor for SQL that offers what may be written at the cursor."""

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea
from textual.widgets.text_area import Selection

from energylens.queries.completion import Completion, Vocabulary
from energylens.queries.editing import Place, Span, statement_at
from energylens.tui.widgets.completions import Completions


class SqlEditor(TextArea):
    """Candidates open as one types: up and down choose, tab writes the chosen one, esc closes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+up", "earlier", "Earlier", show=False, id="editor.earlier"),
        Binding("ctrl+down", "later", "Later", show=False, id="editor.later"),
        Binding("ctrl+l", "empty", "Empty", show=False, id="editor.empty", tooltip="ctrl+z undoes"),
    ]

    @dataclass
    class Walked(Message):
        """Another statement of the history is wanted: 1 earlier, -1 later."""

        by: int

    def __init__(self, text: str, id: str, candidates: Completions) -> None:  # noqa: A002
        super().__init__(
            text,
            id=id,
            language="sql",
            theme="monokai",
            show_line_numbers=False,
            tab_behavior="indent",
            soft_wrap=True,
        )
        self.vocabulary = Vocabulary({})
        self._candidates = candidates

    @property
    def completion(self) -> Completion:
        """What may be written at the cursor, or in place of what is selected."""
        start, end = sorted(self.selection)
        before = self.get_text_range((0, 0), start)
        return self.vocabulary.complete(before, self.get_text_range(end, self.document.end))

    @property
    def statement(self) -> Span:
        """What is to be run: the selection, else the statement the cursor is in."""
        start, end = sorted(map(self._offset, self.selection))
        if self.text[start:end].strip():
            return Span(start, end)
        return statement_at(self.text, self._offset(self.cursor_location))

    def place(self, offset: int) -> Place:
        """Line and column of a character of the text."""
        lines = self.text[:offset].split("\n")
        return Place(len(lines) - 1, len(lines[-1]))

    def write(self, text: str, selected: Span | None = None) -> None:
        """Put a text in place of all; the cursor stands at its end, or a part is selected and what
        may be written in its place is offered."""
        self.replace(text, (0, 0), self.document.end)
        end = self.place(len(text)) if selected is None else self.place(selected.end)
        start = end if selected is None else self.place(selected.start)
        self.selection = Selection(start, end)
        self._candidates.close()
        if selected:
            self.call_after_refresh(self.offer)  # where the cursor will be shown

    def close_candidates(self) -> bool:
        """Take the candidates away; whether there were any."""
        was_open = self._candidates.is_open
        self._candidates.close()
        return was_open

    def offer(self) -> None:
        """Open what may be written at the cursor, where that is more than what stands there."""
        found = self.completion
        start, _ = sorted(self.selection)
        written = self.get_text_range((0, 0), start)[-found.taken_back or None :]
        names = [one.text for one in found.candidates]
        if not names or (found.taken_back and names == [written]):
            self._candidates.close()
        else:
            self._candidates.open(found.candidates, self.cursor_screen_offset)

    async def _on_key(self, event: events.Key) -> None:
        if self._candidates.is_open and event.key in ("up", "down", "tab"):
            event.prevent_default()
            event.stop()
            if event.key == "tab":
                self._take(self._candidates.chosen.text)
            else:
                self._candidates.move(1 if event.key == "down" else -1)
            return
        await super()._on_key(event)
        if event.is_printable or event.key == "backspace":
            self.call_later(self.offer)
        elif event.key != "shift":
            self._candidates.close()

    def _take(self, text: str) -> None:
        (row, column), end = sorted(self.selection)
        taken_back = self.completion.taken_back
        self.replace(text, (row, column - taken_back), end)
        self.move_cursor((row, column - taken_back + len(text)))
        self._candidates.close()

    def undo(self) -> None:
        self._go_where_there_is_text(bool(self.history.undo_stack))
        super().undo()

    def redo(self) -> None:
        self._go_where_there_is_text(bool(self.history.redo_stack))
        super().redo()

    def _go_where_there_is_text(self, is_to_change: bool) -> None:
        """Before lines go away: Textual scrolls to the cursor before it has moved it."""
        if is_to_change:
            self.move_cursor((0, 0))

    def _on_blur(self, event: events.Blur) -> None:
        self._candidates.close()
        super()._on_blur(event)

    def _offset(self, location: tuple[int, int]) -> int:
        return len(self.get_text_range((0, 0), location))

    def action_empty(self) -> None:
        """Take all out."""
        self.write("")

    def action_earlier(self) -> None:
        self.post_message(self.Walked(1))

    def action_later(self) -> None:
        self.post_message(self.Walked(-1))
