"""Features: the whole dictionary of one SAE, filtered, sorted and gone through."""

from dataclasses import replace
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.timer import Timer
from textual.widgets import Static

from energylens.db.store import Session
from energylens.errors import EnergyLensError
from energylens.queries.display import number, visible
from energylens.queries.features import feature
from energylens.queries.meanings import meant_by
from energylens.queries.ranked import FEATURE_COLUMNS, MATCH, FeatureList, Sort
from energylens.tui.address import Told
from energylens.tui.feature_facts import facts, histogram_of
from energylens.tui.kinds.base import PEEK_AFTER, SaeScreen
from energylens.tui.kinds.lacking import LackingScreen
from energylens.tui.kinds.marking import MarkingScreen
from energylens.tui.lacks import Lack, why_nothing
from energylens.tui.modals.goto import GoTo
from energylens.tui.places import FeatureInList
from energylens.tui.sources import FeatureRows
from energylens.tui.state import FeaturePlace
from energylens.tui.widgets.filter_bar import FilterBar
from energylens.tui.widgets.histogram import Histogram
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

_TITLES = {
    "feature_id": ("feature", 8),
    "n_active": ("active", 8),
    "n_texts": ("texts", 6),
    "density": ("density", 7),
    "max_activation": ("max", 7),
    "mean_activation": ("mean", 7),
    "score": ("score", 7),
    "top_category": ("category", 13),
    "selectivity": ("select.", 7),
    "is_dense": ("dense", 5),
    "label": ("label", 29),
    "is_starred": ("★", 1),
    "note": ("note", 30),
}
_SHOW = {
    "feature_id": str,
    "top_category": lambda v: "·" if v is None else visible(v),
    "is_starred": lambda v: "★" if v else "",
    "label": lambda v: "" if v is None else visible(v),
    "note": lambda v: "" if v is None else visible(v),
}
"""How the values read that are no figures."""
_FIRST = ("feature_id", "is_starred", "label", "score", "top_category", "n_active", "density")
"""What is seen where there is little room; the others stand right of it."""
_COLUMNS = tuple(
    TableColumn(name, *_TITLES[name], _SHOW.get(name, number), right=kind != "VARCHAR")
    for name, kind in FEATURE_COLUMNS.items()
)


class FeaturesScreen(MarkingScreen, SaeScreen, LackingScreen):
    """A table of every feature, its filter bar, and on wide screens the facts of one."""

    FIGURES: ClassVar[dict[str, str]] = {
        "density_and_l0": "how often features are active, by SAE",
    }
    FIRST_COLUMNS: ClassVar[dict[str, tuple[str, ...]]] = {"list": _FIRST}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", id="features.filter", tooltip="Filter the list"),
        Binding("s", "sort(True)", "Sort", id="features.sort", tooltip="Sort by this column"),
        Binding("S", "sort(False)", "Sort up", show=False, id="features.sort_up"),
        Binding("g", "goto", "Go to", id="features.goto", tooltip="Go to a feature"),
    ]
    HELP = """# Features

Every feature of one SAE. **s** sorts by the column under the cursor, **S** the other way,
**g** goes to a feature, **c** looks at another SAE, **enter** opens a feature. `*` stars it,
**n** notes something about it (both stay in the store), **=** marks it, and again on another holds
the two side by side.

**/** finds and filters: `import max_activation > 5 category:math -is_dense=yes`. A word finds
features by what they are said to stand for, the tokens they are strong on or promote, and their
category, the surest first. Terms stand side by side and must all hold; `:` means contains, `~`
matches a regular expression, `-` means not. Column names may be cut short while they are clear:
`star=yes`, `note:bracket`. *label* is what is said of a feature, else *on* and the tokens it is
strongest on.
"""

    def compose(self) -> ComposeResult:
        yield ViewBar("features")
        with Horizontal(id="features"):
            yield VirtualTable(_COLUMNS, id="list")
            with VerticalScroll(id="peek", classes="side", can_focus=False):
                yield Static("", id="peek-facts", markup=False)
                yield Histogram(lines=5, id="peek-histogram")
        yield FilterBar("max_activation > 5 category:math", id="filter")
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self._chosen_sort: Sort | None = None
        self._sort = Sort()
        """By which the rows stand: by what was chosen, else by how well the words fit."""
        self._filter = ""
        self._listed: FeatureList | None = None
        self._n_all = 0
        self._rest: Timer | None = None
        self.query_one("#filter").display = False
        self.query_one("#list").focus()
        self.workspace.watch(self._open)
        self.workspace.watch_notes(self._noted)
        self._open()

    @property
    def filter_text(self) -> str:
        """What the list is filtered by."""
        return self._filter

    @property
    def table(self) -> VirtualTable:
        return self.query_one("#list", VirtualTable)

    HAS_LIST = True

    def address(self) -> Told:
        sort, row = self._chosen_sort, self.table.cursor_row
        return replace(
            super().address(),
            filter=self._filter.strip() or None,
            sort=f"{'-' if sort.descending else ''}{sort.column}" if sort else None,
            row=row + 1 if row > 0 else None,
        )

    def take(self, told: Told) -> None:
        super().take(told)
        if told.sort is not None:
            self._chosen_sort = Sort(told.sort.removeprefix("-"), told.sort.startswith("-"))
        self._arrange(told.filter or "", to_row=told.row)

    def _open(self) -> None:
        """Show the SAE in view from the top."""
        selection = self.workspace.selection
        if selection is None:
            self._listed = None
            self._ask_why()
            return
        self._listed = FeatureList(self.workspace.store, selection.run, selection.sae.sae_id)
        self._arrange()

    def _ask_why(self) -> None:
        """Say why there is no feature to list."""
        place, store = self.here, self.workspace.store
        if place is None:
            self.say("this store holds no run yet; see 1, Overview")
            return

        def told(lack: Lack) -> None:
            self.show_lack(lack, self.table, self.query_one("#peek"))
            self.say("no features")

        self.workspace.tasks.ask(
            self, "arrange", lambda session: why_nothing(session, store, place, "features"), told
        )

    def feature_in_view(self) -> FeaturePlace | None:
        selection, row = self.workspace.selection, self._row(self.table.cursor_row)
        return None if selection is None or row is None else FeaturePlace(selection, int(row[0]))

    def _noted(self) -> None:
        """Read the rows again; the cursor stays with its feature."""
        self._arrange(stay_with=self.feature_in_view())

    def _arrange(
        self,
        filter_text: str | None = None,
        stay_with: FeaturePlace | None = None,
        to_row: int | None = None,
    ) -> None:
        listed = self._listed
        wanted = self._filter if filter_text is None else filter_text
        if listed is None:
            return

        def question(session: Session) -> tuple[int, int, Sort]:
            led = meant_by(session, listed.run, listed.sae, wanted)
            sort = self._chosen_sort or (MATCH if len(led) else Sort())
            return *listed.arrange(wanted, sort, led), sort

        def done(found: tuple[int, int, Sort]) -> None:
            self._filter = wanted
            self._arranged(listed, *found)
            if stay_with is not None:
                self._find(listed, stay_with.feature_id)
            elif to_row is not None:
                self.table.move_to(to_row - 1)

        self.workspace.tasks.ask(self, "arrange", question, done, self._refused)

    def _arranged(self, listed: FeatureList, left: int, n_all: int, sort: Sort) -> None:
        self._n_all, self._sort = n_all, sort
        if not self._n_all:
            self._ask_why()
            return
        self.show_lack(None, self.table)
        self.table.arrow = (self._sort.column, self._sort.descending)
        self.table.show(FeatureRows(listed, left, self.workspace.tasks, self.table))
        self._say(left)

    def _say(self, left: int) -> None:
        shown = (
            "no feature matches; esc clears the filter"
            if left == 0
            else f"{left:,} of {self._n_all:,}"
        )
        self.say(
            shown,
            self._filter,
            f"sort {self._sort.column} {'desc' if self._sort.descending else 'asc'}",
        )

    def _refused(self, error: EnergyLensError) -> None:
        self.say(str(error))

    def filter_by(self, text: str) -> None:
        """Show what a filter leaves."""
        self._arrange(text)

    def action_filter(self) -> None:
        """Open the filter bar."""
        self.query_one(FilterBar).open(self._filter)

    @on(FilterBar.Typed)
    def _filter_typed(self, event: FilterBar.Typed) -> None:
        self._arrange(event.text)

    @on(FilterBar.Done)
    def _filter_done(self) -> None:
        self.query_one(FilterBar).display = False
        self.table.focus()

    @on(FilterBar.Cleared)
    def _filter_cleared(self) -> None:
        self._arrange("")
        self._filter_done()

    def step_back(self) -> bool:
        """Clear the filter."""
        is_filtered = bool(self._filter)
        if is_filtered:
            self._filter_cleared()
        return is_filtered

    def action_sort(self, descending: bool) -> None:
        """Sort by the column under the cursor; again turns round."""
        column = self.table.column.name
        if descending and self._sort == Sort(column, True):
            descending = False
        self._chosen_sort = Sort(column, descending)
        self._arrange()

    @on(VirtualTable.HeadingClicked)
    def _heading(self, event: VirtualTable.HeadingClicked) -> None:
        self._chosen_sort = Sort(event.column, self._sort != Sort(event.column, True))
        self._arrange()

    def action_goto(self) -> None:
        """Ask for a feature and go to its row."""
        selection = self.workspace.selection
        if selection is None:
            self.cannot("The run in view has no SAE, so it has no features to go to.")
            return

        def go(feature_id: int | None) -> None:
            listed = self._listed
            if feature_id is not None and listed is not None:
                self._find(listed, feature_id)

        self.app.push_screen(GoTo(selection), go)

    def _find(self, listed: FeatureList, feature_id: int) -> None:
        self.workspace.tasks.ask(
            self,
            "goto",
            lambda _: listed.row_of(feature_id),
            lambda row: self._go(feature_id, row),
        )

    def _go(self, feature_id: int, row: int | None) -> None:
        if row is None:
            self.notify(f"the filter leaves feature {feature_id} out", markup=False)
        else:
            self.table.move_to(row)

    @on(VirtualTable.Moved)
    def _moved(self) -> None:
        if self.query_one("#peek").display:
            if self._rest is not None:
                self._rest.stop()
            self._rest = self.set_timer(PEEK_AFTER, self._peek)

    def panes_changed(self) -> None:
        self._moved()

    def _peek(self) -> None:
        selection, row = self.workspace.selection, self._row(self.table.cursor_row)
        if selection is None or row is None:
            return
        self.workspace.tasks.ask(
            self,
            "peek",
            lambda session: feature(session, selection.run, selection.sae.sae_id, int(row[0])),
            self._peeked,
        )

    def _peeked(self, record: Any) -> None:
        self.query_one("#peek-facts", Static).update(facts(record))
        self.query_one("#peek-histogram", Histogram).show(*histogram_of(record))

    def _row(self, index: int) -> Any:
        source = self.table.source
        return source.row(index) if source is not None and source.n_rows else None

    @on(VirtualTable.Chosen)
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        selection = self.workspace.selection
        if selection is not None:
            self.open_place(FeatureInList(selection, event.row, self.table.n_rows, self._id_at))

    def _id_at(self, row: int) -> int | None:
        """The feature in a row of the list; moves the list's cursor along."""
        self.table.move_to(row)
        if self._listed is None:
            return None
        found = self._row(row) or next(iter(self._listed.rows(row, row + 1)), None)
        return None if found is None else int(found[0])
