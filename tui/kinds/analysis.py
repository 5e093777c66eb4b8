"""What the screens of the analyses share: tables of frames, the SAE in view, ways to a feature."""

from collections.abc import Callable, Sequence
from typing import Any

from energylens.db.store import Session
from energylens.tui.kinds.base import SaeScreen
from energylens.tui.kinds.listing import ListingScreen
from energylens.tui.places import FeatureInList
from energylens.tui.state import Selection
from energylens.tui.widgets.status_bar import StatusBar


class AnalysisScreen(ListingScreen, SaeScreen):
    """A screen about the SAE in view; asks again when another one is."""

    def on_mount(self) -> None:
        self.workspace.watch(self._opened)
        self._opened()

    def open(self, selection: Selection) -> None:
        """Show an SAE; each screen's own."""

    def _opened(self) -> None:
        selection = self.workspace.selection
        if selection is None:
            self.say("this store has no SAE; see 1, Overview")
        else:
            self.open(selection)

    def ask(
        self, topic: str, question: Callable[[Session], Any], answer: Callable[[Any], None]
    ) -> None:
        """Ask the store in a thread."""
        self.workspace.tasks.ask(self, topic, question, answer)

    def say(self, *parts: str) -> None:
        """Fill the status line."""
        self.query_one(StatusBar).say(*parts)

    def open_feature(self, selection: Selection, ids: Sequence[int], row: int) -> None:
        """Open the feature in a row of a list; [ and ] go along the list."""

        def id_at(place: int) -> int | None:
            return int(ids[place]) if 0 <= place < len(ids) else None

        if id_at(row) is not None:
            self.open_place(FeatureInList(selection, row, len(ids), id_at))

    def missing(self, what: str) -> str:
        """What to do where an analysis has no rows."""
        return f"no {what} for this SAE: energylens index {self.workspace.store.path}"
