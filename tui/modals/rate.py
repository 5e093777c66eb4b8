"""Rate a feature by the rubric: four digits, then enter."""

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from energylens.db.ratings import RATINGS, SCALES, Rating
from energylens.db.store import Session
from energylens.queries.display import visible
from energylens.queries.explanations import feature_explanations
from energylens.queries.ratings import numbers_of, ratings_of
from energylens.tui.state import FeaturePlace, Workspace, workspace_of

Numbers = tuple[int, int, int, int]
"""One for each scale."""
_NAMES = tuple(SCALES)
_ASKED = {column.name: column.doc for column in RATINGS.columns}
"""What each scale asks, and from where to where it goes."""
_HINT = "enter keeps, backspace takes one back, esc cancels"


class RateModal(ModalScreen[Numbers | None]):
    """Returns a number for each scale, in their order."""

    VERTICAL_BREAKPOINTS = [(0, "-low"), (20, "-high")]  # noqa: RUF012 - Textual's own type
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "keep", "Keep", id="rate.keep"),
        Binding("backspace", "take_back", "Take back", id="rate.take_back"),
        Binding("escape", "none", "Cancel", id="rate.cancel"),
    ]

    def __init__(self, place: FeaturePlace, rater: str) -> None:
        super().__init__()
        self._place, self._rater = place, rater
        self._typed: list[int] = []

    @property
    def workspace(self) -> Workspace:
        """The open store and what is in view."""
        return workspace_of(self)

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static(self._title(), classes="dialog-title", markup=False)
            yield Static("", id="rate-label", markup=False)
            yield Static("", id="rate-scales", markup=False)
            yield Static("", id="rate-said", markup=False)
            yield Static(_HINT, classes="dialog-hint", markup=False)

    def on_mount(self) -> None:
        self._show()
        place = self._place
        of = place.selection.run, place.selection.sae.sae_id, place.feature_id

        def read(session: Session) -> tuple[list[Rating], list[str]]:
            said = feature_explanations(session, *of)["description"]
            return ratings_of(session, *of), said.head(1).to_list()

        self.workspace.tasks.ask(self, "rating", read, self._found)

    def _found(self, found: tuple[list[Rating], list[str]]) -> None:
        """Show what is rated, and what this rater has said before."""
        ratings, label = found
        what = f"said to be {visible(label[0])}" if label else "nothing is said of it yet"
        self.query_one("#rate-label", Static).update(what)
        for one in ratings:
            if one.rater == self._rater:
                before = f"{self._title()}, now {' '.join(map(str, numbers_of(one)))}"
                self.query_one(".dialog-title", Static).update(before)

    def _title(self) -> str:
        place = self._place
        what = f"Feature {place.feature_id} of {place.selection.sae.sae_id}"
        return visible(f"{what}, rated by {self._rater}")

    def on_key(self, event: events.Key) -> None:
        """Take a digit; a view that it would lead to elsewhere is not gone to."""
        if event.character and event.character in "0123456789":
            event.stop()
            self._take(int(event.character))

    def _take(self, digit: int) -> None:
        if len(self._typed) == len(_NAMES):
            self._show("all four are there: enter keeps them, backspace takes the last one back")
            return
        name = _NAMES[len(self._typed)]
        if digit > SCALES[name]:
            self._show(f"{name} is rated from 0 to {SCALES[name]}, not {digit}")
            return
        self._typed.append(digit)
        self._show()

    def action_take_back(self) -> None:
        """Ask again for the last number."""
        self._typed = self._typed[:-1]
        self._show()

    def action_keep(self) -> None:
        """Give the numbers back, when all are there."""
        match self._typed:
            case [confidence, consistency, completeness, specificity]:
                self.dismiss((confidence, consistency, completeness, specificity))
            case typed:
                missing = _NAMES[len(typed)]
                self._show(f"{missing} is missing: type a digit from 0 to {SCALES[missing]}")

    def action_none(self) -> None:
        self.dismiss(None)

    def _show(self, said: str = "") -> None:
        """Each scale with its number and what it asks; the one that is asked now in bold."""
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(justify="right")
        table.add_column(width=1)
        table.add_column(overflow="fold")
        for place, name in enumerate(_NAMES):
            is_next = place == len(self._typed)
            number = str(self._typed[place]) if place < len(self._typed) else "_" * is_next
            asked = Text(_ASKED[name], "" if is_next else "dim")
            table.add_row(Text(name, "bold" if is_next else ""), Text(number, "bold"), asked)
        self.query_one("#rate-scales", Static).update(table)
        total = f"sum {sum(self._typed)} of {sum(SCALES.values())}"
        self.query_one("#rate-said", Static).update(said or total)
