"""Screens with a list, and beside it what Enter would open of the row under the cursor."""

from collections.abc import Callable
from functools import partial

from rich.console import RenderableType
from textual import on
from textual.containers import VerticalScroll
from textual.timer import Timer
from textual.widgets import Static

from energylens.db.store import Session
from energylens.errors import EnergyLensError
from energylens.queries.display import visible_lines
from energylens.tui.kinds.base import PEEK_AFTER
from energylens.tui.kinds.listing import ListingScreen
from energylens.tui.places import FeatureInList, Place, WholeText
from energylens.tui.previews import feature_preview, text_preview
from energylens.tui.state import FeaturePlace
from energylens.tui.widgets.panes import room_in
from energylens.tui.widgets.virtual_table import VirtualTable

Look = Callable[[Session, int], RenderableType]
"""Draws a preview of so many cells."""
_LEAST = 20
STACKED = [(0, "-low"), (28, "-high")]
"""Rows of a screen from which a preview has room below its list."""


def look_at_feature(place: FeaturePlace | None) -> Look | None:
    """The preview of a feature; None where there is none."""
    return None if place is None else partial(feature_preview, place=place)


def look_of(place: Place | None) -> Look | None:
    """The preview of a feature or a text; None for what has none."""
    if isinstance(place, WholeText):
        return lambda session, _: text_preview(session, place.run, place.text_id, None)
    if not isinstance(place, FeatureInList):
        return None
    found = place.id_at(place.row)
    return look_at_feature(None if found is None else FeaturePlace(place.selection, found))


class Preview(VerticalScroll, can_focus=False):
    """The pane."""

    DEFAULT_CSS = """
    Preview { width: 1fr; min-width: 44; padding: 0 1; border-left: solid $panel; }
    Preview Static { height: auto; }
    """

    def __init__(self) -> None:
        super().__init__(Static("", id="preview-text", markup=False), id="preview", classes="side")


class PreviewScreen(ListingScreen):
    """Looks once the cursor rests, and lets go of a look that is under way when it moves."""

    _rest: Timer | None = None

    def look(self, table: VirtualTable) -> Look | None:
        """What is drawn for the cursor's row of a table; None where nothing is."""
        return None

    @on(VirtualTable.Moved)
    def _row_moved(self, event: VirtualTable.Moved) -> None:
        self.look_soon(event.table)

    def look_soon(self, table: VirtualTable) -> None:
        """Look when the cursor rests."""
        if not self.query_one(Preview).display:
            return
        if self._rest is not None:
            self._rest.stop()
        self.workspace.tasks.cancel(self, "preview")
        self._rest = self.set_timer(PEEK_AFTER, partial(self._look_at, table))

    def panes_changed(self) -> None:
        self.look_again()

    def look_again(self) -> None:
        """Draw the preview of the list in view once more."""
        tables = (table for table in self.query(VirtualTable) if table.display)
        table = next(tables, None)
        if table is not None and self.query_one(Preview).display:
            self._look_at(table)

    def _look_at(self, table: VirtualTable) -> None:
        look = self.look(table)
        pane = self.query_one("#preview-text", Static)
        if look is None:
            pane.update("")
            return
        width = max(_LEAST, room_in(self.query_one(Preview)))

        def failed(error: EnergyLensError) -> None:
            pane.update(visible_lines(str(error)))

        self.workspace.tasks.ask(
            self, "preview", lambda session: look(session, width), pane.update, failed
        )
