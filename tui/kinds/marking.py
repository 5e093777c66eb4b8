"""Screens that show features: star one, note something about it, hold two side by side."""

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType

from energylens.db.notes import Note
from energylens.db.store import Session
from energylens.queries.notes import keep_note, note_of
from energylens.tui.kinds.base import LensScreen
from energylens.tui.modals.ask_line import AskLine
from energylens.tui.places import TwoFeatures
from energylens.tui.settings import login_name
from energylens.tui.state import FeaturePlace


class MarkingScreen(LensScreen):
    """A screen with features on it; one of them is in view."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("asterisk", "star", "Star", show=False, id="feature.star", tooltip="Star it"),
        Binding("n", "note", "Note", show=False, id="feature.note", tooltip="Note about it"),
        Binding(
            "equals_sign",
            "compare",
            "Compare",
            show=False,
            id="feature.compare",
            tooltip="Mark it; again on another: side by side",
        ),
    ]

    def feature_in_view(self) -> FeaturePlace | None:
        """The feature these keys act on; None while there is none."""
        return None

    def action_star(self) -> None:
        """Give the feature a star, or take it away."""
        self._change(lambda note: replace(note, is_starred=not note.is_starred))

    def action_note(self) -> None:
        """Ask for a note about the feature; an empty one takes it away."""
        place = self.feature_in_view()
        if place is None:
            return

        def ask(note: Note) -> None:
            def given(text: str | None) -> None:
                if text is not None:
                    self._change(lambda found: replace(found, note=text.strip() or None))

            title = f"Note about feature {place.feature_id} of {place.selection.sae.sae_id}"
            hint = "kept in the store; empty takes it away; in 2, Features, / note:word finds it"
            self.app.push_screen(AskLine(title, note.note or "", hint), given)

        self.workspace.tasks.ask(self, "note", _reading(place), ask)

    def action_compare(self) -> None:
        """Mark the feature; with another one marked, hold the two side by side."""
        place, marked = self.feature_in_view(), self.workspace.marked_feature
        if place is None:
            return
        if marked is None or marked == place:
            self.workspace.marked_feature = place
            self.notify(
                f"feature {place.feature_id} marked: = on another holds the two side by side",
                markup=False,
            )
        else:
            self.workspace.marked_feature = None
            self.open_place(TwoFeatures(marked, place))

    def _change(self, changed: Callable[[Note], Note]) -> None:
        place, store = self.feature_in_view(), self.workspace.store
        if place is None:
            return
        read, author = _reading(place), self.workspace.rater or login_name()

        def keep(session: Session) -> Note:
            note = replace(changed(read(session)), author=author)
            keep_note(store, note)
            return note

        def told(note: Note) -> None:
            said = "starred" if note.is_starred else "no star"
            text = f", noted: {note.note}" if note.note else ""
            self.notify(f"feature {note.feature_id}: {said}{text}", markup=False)
            self.workspace.noted()

        self.workspace.tasks.ask(self, "note", keep, told)


def _reading(place: FeaturePlace) -> Callable[[Session], Note]:
    run, sae = place.selection.run, place.selection.sae.sae_id
    return lambda session: note_of(session, run, sae, place.feature_id)
