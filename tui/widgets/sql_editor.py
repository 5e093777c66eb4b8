"""An editor for SQL that completes names from the catalogue with tab, as a shell does."""

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from energylens.queries.completion import Vocabulary, added


class SqlEditor(TextArea):
    """Candidates are told as one types; tab writes as far as they agree, or indents."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+up", "earlier", "Earlier", show=False, id="editor.earlier"),
        Binding("ctrl+down", "later", "Later", show=False, id="editor.later"),
    ]

    @dataclass
    class Candidates(Message):
        """What the word before the cursor could become."""

        names: list[str]

    @dataclass
    class Walked(Message):
        """Another statement of the history is wanted: 1 earlier, -1 later."""

        by: int

    def __init__(self, text: str, id: str) -> None:  # noqa: A002
        super().__init__(
            text,
            id=id,
            language="sql",
            theme="monokai",
            show_line_numbers=False,
            tab_behavior="indent",
            soft_wrap=False,
        )
        self.vocabulary = Vocabulary({})

    @property
    def before(self) -> str:
        """The statement up to the cursor."""
        return self.get_text_range((0, 0), self.cursor_location)

    async def _on_key(self, event: events.Key) -> None:
        if event.key == "tab":
            candidates = self.vocabulary.complete(self.before)
            if candidates:
                event.prevent_default()
                event.stop()
                self._complete(candidates)
                return
        await super()._on_key(event)

    def _complete(self, candidates: list[str]) -> None:
        taken_back, text = added(self.before, candidates)
        row, column = self.cursor_location
        self.replace(text, (row, column - taken_back), (row, column))
        self.move_cursor((row, column - taken_back + len(text)))

    def tell(self) -> None:
        """Post what the word before the cursor could become."""
        self.post_message(self.Candidates(self.vocabulary.complete(self.before)))

    def action_earlier(self) -> None:
        self.post_message(self.Walked(1))

    def action_later(self) -> None:
        self.post_message(self.Walked(-1))
