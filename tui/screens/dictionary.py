"""Map: where the features of an SAE lie beside each other, by their decoder directions."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import polars as pl
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.timer import Timer
from textual.widgets import Static

from energylens.db.store import Session
from energylens.errors import EnergyLensError
from energylens.queries.display import number, visible, visible_lines
from energylens.queries.features import similar_features
from energylens.queries.maps import mapped_features
from energylens.queries.meanings import meanings, meant_by
from energylens.queries.ranked import MATCH, FeatureList, Sort
from energylens.tui.address import Told
from energylens.tui.colours import needs_digits
from energylens.tui.kinds.base import PEEK_AFTER, SaeScreen
from energylens.tui.kinds.lacking import LackingScreen
from energylens.tui.kinds.marking import MarkingScreen
from energylens.tui.kinds.preview import Preview
from energylens.tui.lacks import Lack, why_nothing
from energylens.tui.modals.choose_sae import ChooseSae
from energylens.tui.modals.goto import GoTo
from energylens.tui.places import DictionaryMap, FeatureInList
from energylens.tui.previews import feature_preview
from energylens.tui.state import FeaturePlace, RunPlace, Selection
from energylens.tui.widgets.feature_map import FeatureMap
from energylens.tui.widgets.filter_bar import FilterBar
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.map_colours import WAYS, Colours, coloured
from energylens.tui.widgets.panes import room_in
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar

_LEAST = 20


@dataclass(frozen=True)
class Mapped:
    """The features of a map, or why there are none."""

    rows: pl.DataFrame
    near: list[int]
    """The neighbours of the feature it opens at."""
    lack: Lack | None


class MapScreen(MarkingScreen, SaeScreen, LackingScreen):
    """The map, a line about the feature under the cursor and one about the colours; on wide screens
    what enter opens stands beside."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Find", id="map.find", tooltip="Mark what words lead to"),
        Binding("t", "turn", "Colour", id="map.colour", tooltip="By something else"),
        Binding("f", "only", "Only these", id="map.only", tooltip="Draw only what is marked"),
        Binding("v", "signs", "Signs", id="map.signs", tooltip="Signs in place of dots"),
        Binding("g", "goto", "Go to", show=False, id="map.goto", tooltip="A feature"),
    ]
    HAS_LIST = True
    HELP = """# Map of the dictionary

Each dot is a feature: its decoder direction, of length 1, on the plane of the first two principal
components of all of them. The status line says how much of their variance the plane holds; what is
left out may set features apart that are drawn side by side, so closeness is told by the neighbours,
which are marked where the map is opened from a feature.

The arrows or **h**, **j**, **k**, **l** go to the nearest feature in another place, **[** and **]**
go through those in the same one, **+** and **-** come nearer and go away, **home** shows all.
**enter** opens the feature, **g** goes to one. **/** marks what words lead to, or what a filter of
2, Features, leaves; **n** and **N** go from one to the next, the surest first, **f** draws only
them. **t** colours by how many lie in a place, category of specialists, frequency, EFAS, or labels;
the line under the map says what colours stand for. **v** writes signs in place of dots, which tell
the same without colours. `*` stars the feature, **=** marks it to hold another one beside it, **c**
looks at another SAE.
"""

    def __init__(self, place: DictionaryMap) -> None:
        super().__init__()
        self._selection, self._start, self._words = place.selection, place.feature_id, place.words
        self._rows = pl.DataFrame()
        self._ids: list[int] = []
        self._places: dict[int, int] = {}
        self._way = 0
        self._colours: Colours | None = None
        self._rest: Timer | None = None
        self._said = ""

    @property
    def here(self) -> RunPlace:
        return RunPlace(self._selection.run, self._selection.sae)

    def address(self) -> Told:
        place = self.feature_in_view()
        return replace(
            super().address(),
            page="map",
            feature=None if place is None else f"{place.selection.sae.sae_id}:{place.feature_id}",
            filter=self._words or None,
            show=WAYS[self._way],
        )

    def take(self, told: Told) -> None:
        self._way = WAYS.index(self.one_of(WAYS, told.show))
        if self._ids:
            self._colour()

    @property
    def map(self) -> FeatureMap:
        return self.query_one(FeatureMap)

    def compose(self) -> ComposeResult:
        yield ViewBar("features")
        with Horizontal(classes="beside"):
            with Vertical(id="map-side"):
                yield FeatureMap(id="map")
                yield Static("", id="map-about", markup=False)
                yield Static("", id="map-legend", markup=False)
            yield Preview()
        yield FilterBar("words, or: n_active > 100 category:math", id="filter")
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(FilterBar).display = False
        self.map.with_signs = needs_digits(self.app)
        self.map.focus()
        self.workspace.watch_notes(self._look_soon)
        self._open()

    def on_unmount(self) -> None:
        self.workspace.leave_notes(self._look_soon)

    def feature_in_view(self) -> FeaturePlace | None:
        if not self._ids:
            return None
        return FeaturePlace(self._selection, self._ids[self.map.at])

    def _open(self) -> None:
        """Read the map of the SAE."""
        run, sae, start = self._selection.run, self._selection.sae.sae_id, self._start
        store, place = self.workspace.store, self.here

        def question(session: Session) -> Mapped:
            rows = mapped_features(session, run, sae)
            if rows.is_empty():
                return Mapped(rows, [], why_nothing(session, store, place, "map"))
            if start is None:
                return Mapped(rows, [], None)
            near = similar_features(session, run, sae, start)
            return Mapped(rows, near["neighbour_id"].to_list(), None)

        self.say("reading the map")
        self.workspace.tasks.ask(self, "map", question, self._show)

    def _show(self, found: Mapped) -> None:
        self._rows, self._ids = found.rows, found.rows["feature_id"].to_list()
        self._places = {feature: at for at, feature in enumerate(self._ids)}
        self.show_lack(found.lack, self.query_one("#map-side"), self.query_one(Preview))
        if found.lack is not None:
            self.say("no map")
            return
        x, y = (found.rows[axis].to_numpy() for axis in ("x", "y"))
        at = 0 if self._start is None else self._places.get(self._start, 0)
        self.map.show(x, y, at)
        self._colour()
        if self._words:
            self._mark_words(self._words)
        elif found.near:
            self.map.mark([self._places[one] for one in found.near if one in self._places])
            self._said = f"neighbours of {self._start}"
            self._moved()

    def _colour(self) -> None:
        way = WAYS[self._way]
        self._colours = coloured(way, self._rows)
        self.map.colour(self._colours, way == "density")
        self._write_legend()

    def _write_legend(self) -> None:
        """As many of its parts as there is room for."""
        if self._colours is None:
            return
        pane = self.query_one("#map-legend", Static)
        width, text = pane.size.width, Text(no_wrap=True)
        text.append(f"{WAYS[self._way]}:", "dim")
        for sign, style, said in self._colours.legend:
            part = Text("  ").append(sign if self.map.with_signs else "■", style)
            part.append(f" {visible(said)}", "dim")
            if text.cell_len + part.cell_len > width - 2:
                text.append(" …", "dim")
                break
            text.append_text(part)
        pane.update(text, layout=False)

    @on(FeatureMap.Moved)
    def _moved(self) -> None:
        if self._ids:
            self._write_about(None)
            self._say_place()
            self._look_soon()

    def _write_about(self, told: tuple[str | None, bool] | None) -> None:
        """The feature under the cursor, on a line; what it stands for is `told` once it is
        looked up."""
        row, here = self._rows.row(self.map.at, named=True), self.map.here.tolist()
        meaning, is_starred = told or (None, False)
        said = f"{row['feature_id']}{' ★' if is_starred else ''}"
        text = Text(said, "bold", no_wrap=True, overflow="ellipsis")
        if len(here) > 1 and self.map.at in here:
            text.append(f"  {here.index(self.map.at) + 1} of {len(here):,} here", "dim")
        text.append(f"  {row['n_active']:,} tokens" if row["n_active"] else "  silent")
        category = row["specialist"] or row["top_category"]
        if category is not None:
            text.append(f"  {'' if row['specialist'] else 'most in '}{visible(category)}")
        if row["within"] is not None and WAYS[self._way] == "EFAS":
            text.append(f"  EFAS {number(row['within'])}")
        text.append(f"  {visible(meaning)}" if meaning else "")
        self.query_one("#map-about", Static).update(text, layout=False)

    def _say_place(self) -> None:
        x, y = self._rows["x_share"][0], self._rows["y_share"][0]
        near, marked = 2**self.map.zoom, len(self.map.matches)
        self.say(
            f"Map > {self._ids[self.map.at]}",
            f"{marked:,} marked: {self._said}" if marked or self._words else "",
            f"{near:,}x" if near > 1 else "",
            f"{len(self._ids):,} features",
            f"{self._rows['method'][0]}, {100 * (x + y):.2g} % of the variance",
        )

    def _look_soon(self) -> None:
        """Look the feature up once the cursor rests."""
        if self._rest is not None:
            self._rest.stop()
        for topic in ("about", "preview"):
            self.workspace.tasks.cancel(self, topic)
        self._rest = self.set_timer(PEEK_AFTER, self._look)

    def panes_changed(self) -> None:
        self._write_legend()
        self._look_soon()

    def _look(self) -> None:
        place = self.feature_in_view()
        if place is None:
            return
        run, sae, wanted = self._selection.run, self._selection.sae.sae_id, place.feature_id
        self.workspace.tasks.ask(
            self,
            "about",
            lambda session: meanings(session, run, sae, [wanted]).get(wanted),
            self._write_about,
        )
        panel = self.query_one(Preview)
        if not panel.display:
            return
        width, pane = max(_LEAST, room_in(panel)), self.query_one("#preview-text", Static)

        def failed(error: EnergyLensError) -> None:
            pane.update(visible_lines(str(error)))

        self.workspace.tasks.ask(
            self,
            "preview",
            lambda session: feature_preview(session, width, place),
            pane.update,
            failed,
        )

    @on(FeatureMap.Chosen)
    def _chosen(self, event: FeatureMap.Chosen) -> None:
        """Open the feature; its page goes along what is marked, else along what lies there too."""
        listed = list(self.map.matches)
        if event.at not in listed:
            listed = self.map.here.tolist()

        def id_at(row: int) -> int | None:
            if not 0 <= row < len(listed):
                return None
            self.map.move_to(listed[row])
            return self._ids[listed[row]]

        row = listed.index(event.at)
        self.open_place(FeatureInList(self._selection, row, len(listed), id_at))

    def action_turn(self) -> None:
        """Colour by the next thing."""
        if self._ids:
            self._way = (self._way + 1) % len(WAYS)
            self._colour()
            self._moved()

    def action_signs(self) -> None:
        """Write signs in place of dots, or dots again."""
        self.map.turn_signs()
        self._write_legend()

    def action_only(self) -> None:
        """Draw only what is marked, or all."""
        if not self.map.matches:
            self.notify("nothing is marked: / marks what words lead to", markup=False)
        else:
            self.map.turn_only()

    def action_goto(self) -> None:
        """Ask for a feature and go there."""

        def go(feature_id: int | None) -> None:
            if feature_id is not None and feature_id in self._places:
                self.map.move_to(self._places[feature_id])

        self.app.push_screen(GoTo(self._selection), go)

    def action_choose_sae(self) -> None:
        """Ask for another SAE, and show its map."""

        def chosen(selection: Selection | None) -> None:
            if selection is not None:
                self.workspace.select(selection)
                self._selection, self._start, self._said = selection, None, ""
                self._open()

        self.app.push_screen(ChooseSae(self.workspace.choices, self._selection), chosen)

    def action_filter(self) -> None:
        """Open the line for words."""
        self.query_one(FilterBar).open(self._words)

    @on(FilterBar.Typed)
    def _words_typed(self, event: FilterBar.Typed) -> None:
        self._mark_words(event.text)

    @on(FilterBar.Done)
    def _words_done(self) -> None:
        self.query_one(FilterBar).display = False
        self.map.focus()
        self._go_to_matches()

    def _go_to_matches(self) -> None:
        """Go to the surest of what is marked, once its words are done with."""
        is_done = not self.query_one(FilterBar).display and self._words
        if is_done and self.map.matches and self.map.at not in self.map.matches:
            self.map.move_to(self.map.matches[0])

    @on(FilterBar.Cleared)
    def _words_cleared(self) -> None:
        self._mark_words("")
        self.query_one(FilterBar).display = False
        self.map.focus()

    def step_back(self) -> bool:
        """Take the marks away that words have set."""
        is_marked = bool(self._words)
        if is_marked:
            self._words_cleared()
        return is_marked

    def _mark_words(self, words: str) -> None:
        """Mark the features that a filter leaves."""
        run, sae, store = self._selection.run, self._selection.sae.sae_id, self.workspace.store

        def question(session: Session) -> np.ndarray:
            if not words.strip():
                return np.empty(0, dtype=np.int64)
            led = meant_by(session, run, sae, words)
            listed = FeatureList(store, run, sae)
            listed.arrange(words, MATCH if len(led) else Sort("n_active"), led)
            return listed.ids()

        def marked(ids: np.ndarray) -> None:
            self._words = words
            found = [self._places[one] for one in ids.tolist() if one in self._places]
            self.map.mark(found)
            self._said = words if words.strip() else ""
            self.query_one(FilterBar).say(f"{len(found):,} of {len(self._ids):,}")
            self._go_to_matches()
            self._moved()

        self.workspace.tasks.ask(self, "words", question, marked, self._refused)

    def _refused(self, error: EnergyLensError) -> None:
        self.query_one(FilterBar).say(str(error))
