"""Screens that say what they have not, why, and what would make it."""

from textual import on
from textual.widget import Widget

from energylens.tui.kinds.base import LensScreen
from energylens.tui.lacks import Lack
from energylens.tui.recompute import start
from energylens.tui.widgets.lacking import Lacking


class LackingScreen(LensScreen):
    """Shows a lack in place of what would be there."""

    _lack: Lack | None = None

    def show_lack(self, lack: Lack | None, *instead_of: Widget) -> None:
        """Say what is missing in place of widgets, or show those again."""
        notes = list(self.query(Lacking))
        had_focus = any(widget.has_focus for widget in (*notes, *instead_of))
        for note in notes:
            note.remove()
        self._lack = lack
        for widget in instead_of:
            widget.set_class(lack is not None, "-lacking")
        first = instead_of[0]
        if lack is not None:
            remedy = lack.remedy
            command = remedy.command if remedy else ""
            note = Lacking(lack.said, command, bool(remedy and remedy.method))
            assert first.parent is not None, "a widget on the screen stands in something"
            self.mount(note, before=first)
            if had_focus:
                note.focus()
        elif had_focus:
            first.focus()

    @on(Lacking.Wanted)
    def _make_what_is_missing(self) -> None:
        place, lack = self.here, self._lack
        if place is not None and lack is not None and lack.remedy is not None:
            remedy = lack.remedy
            start(self, place.run, remedy.title, remedy.method, remedy.request)
