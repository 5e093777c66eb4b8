"""Find anything by a few letters: what is known at once, and what the store has to be asked for."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from energylens.tui.fuzzy import Entry, Found, ranked
from energylens.tui.modals.choose import Choose

T = TypeVar("T")
Answer = Callable[[list[Found[T]]], None]


class Find(Choose[T]):
    """`at_once` gives what letters lead to without a look at the store; `look` asks the store, and
    answers later, or never where other letters have followed."""

    def __init__(
        self,
        title: str,
        entries: Sequence[Entry[T]],
        at_once: Callable[[str], list[Found[T]]],
        look: Callable[["Find[T]", str, Answer], None],
    ) -> None:
        super().__init__(title, entries)
        self._at_once, self._look = at_once, look
        self._n_asked = 0

    @property
    def n_all(self) -> int:
        return len(self._entries) + self._n_asked

    @property
    def hint(self) -> str:
        return "enter opens it, esc leaves"

    def typed(self, letters: str) -> None:
        self._n_asked = 0
        first = self._at_once(letters)
        known = {one.entry.value for one in first}
        others = [one for one in ranked(self._entries, letters) if one.entry.value not in known]
        now = [*first, *others]
        self._show_sorted(now)
        self._look(self, letters, lambda more: self._add(now, more))

    def _add(self, now: list[Found[T]], more: list[Found[T]]) -> None:
        """Show what the store told, too, in place of what it tells more of."""
        told = {one.entry.value for one in more}
        self._n_asked = len(more)
        kept = self.chosen
        self._show_sorted([*(one for one in now if one.entry.value not in told), *more], kept)

    def _show_sorted(self, found: list[Found[T]], kept: Entry[T] | None = None) -> None:
        """Show them, the best first; the cursor stays with an entry that it was moved to."""
        ordered = sorted(found, key=lambda one: -one.score)
        values = [one.entry.value for one in ordered]
        stays = kept is not None and kept.value in values and self.is_moved
        self.show(ordered, values.index(kept.value) if stays and kept is not None else 0)
