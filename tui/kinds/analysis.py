"""What the screens of the analyses share: tables of frames, the run in view, ways to a feature."""

from collections.abc import Callable, Sequence
from typing import Any

from energylens.db.store import Session
from energylens.queries.frames import FeatureColumns
from energylens.tui.address import Told
from energylens.tui.kinds.base import SaeScreen
from energylens.tui.kinds.listing import ListingScreen
from energylens.tui.places import FeatureInList
from energylens.tui.state import RunPlace, Selection
from energylens.tui.widgets.virtual_table import VirtualTable

_FEATURES = ("feature_id", "partner_id")
"""Columns that hold features of the SAE in view."""


class AnalysisScreen(ListingScreen, SaeScreen):
    """A screen about the run and the SAE in view; asks again when they are others."""

    def on_mount(self) -> None:
        self.workspace.watch(self._opened)
        self._opened()

    def open(self, place: RunPlace) -> None:
        """Show a run and an SAE of it; each screen's own."""

    def take(self, told: Told) -> None:
        self.turn_to(told)
        self.forget_rows()
        self.again()
        super().take(told)

    def turn_to(self, told: Told) -> None:
        """Show next what words say of this screen alone."""

    def again(self) -> None:
        """Ask once more for what is in view."""
        if self.here is not None:
            self.open(self.here)

    def _opened(self) -> None:
        if self.here is None:
            self.say("this store holds no run yet; see 1, Overview")
        else:
            self.open(self.here)

    def ask(
        self, topic: str, question: Callable[[Session], Any], answer: Callable[[Any], None]
    ) -> None:
        """Ask the store in a thread."""
        self.workspace.tasks.ask(self, topic, question, answer)

    def features_of(self, table: VirtualTable) -> FeatureColumns | None:
        selection = self.workspace.selection
        columns = tuple(name for name in _FEATURES if name in self.frame(table.id or "").columns)
        if selection is None or not columns:
            return None
        return FeatureColumns(selection.run, selection.sae.sae_id, columns)

    def open_feature(self, selection: Selection, ids: Sequence[int], row: int) -> None:
        """Open the feature in a row of a list; [ and ] go along the list."""

        def id_at(place: int) -> int | None:
            return int(ids[place]) if 0 <= place < len(ids) else None

        if id_at(row) is not None:
            self.open_place(FeatureInList(selection, row, len(ids), id_at))
