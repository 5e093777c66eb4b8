"""Specialists: categories by SAEs as a heatmap, and the features behind each cell."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import polars as pl
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.timer import Timer

from energylens.db.provenance import SaeInfo
from energylens.db.store import Session
from energylens.queries.display import number, show_probability
from energylens.queries.frames import FeatureColumns
from energylens.queries.meanings import with_meanings
from energylens.queries.specialists import layer_progression, ranked_specialists, specialist_matrix
from energylens.tui.address import Told
from energylens.tui.kinds.analysis import AnalysisScreen
from energylens.tui.kinds.base import PEEK_AFTER
from energylens.tui.kinds.marking import MarkingScreen
from energylens.tui.kinds.preview import Look, Preview, PreviewScreen, look_at_feature
from energylens.tui.lacks import Lack, why_nothing
from energylens.tui.state import FeaturePlace, RunPlace, Selection
from energylens.tui.widgets.columns import MOST_ROWS, label, mark, numeric, probability, text, whole
from energylens.tui.widgets.heatmap import HeatCell, Heatmap
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import VirtualTable

_COLUMNS = (
    whole("feature_id", "feature", 8),
    label(),
    whole("score", "score", 6),
    whole("n_strong_in", "in", 5),
    whole("n_strong_out", "out", 5),
    probability("p", "p"),
    probability("q", "q"),
    numeric("auroc", "AUROC", 7),
    numeric("mean_difference", "diff", 8),
    numeric("log_odds", "odds", 7),
    mark("is_dense", "dense", 5),
)


_LAYERS = (
    whole("layer", "layer", 5),
    text("stream", "stream", 9),
    text("coverage", "coverage", 15),
    text("peak", "peak", 15),
    text("found", "found", 7),
    numeric("mean_best_auroc", "AUROC", 6),
    numeric("mean_best_score", "score", 6),
    whole("most_frequent", "widest", 6),
    whole("strongest", "strong.", 7),
    whole("n_live", "live", 6),
    text("sae_id", "SAE", 27),
)
_BAR = 8


class SpecialistsScreen(MarkingScreen, PreviewScreen, AnalysisScreen):
    """A row for each category, a column for each SAE of the run."""

    FIGURES: ClassVar[dict[str, str]] = {
        "specialist_scores": "best specialists, category by SAE",
        "specialists_by_depth": "categories with a specialist, by layer",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "turn", "Layers", id="specialists.turn", tooltip="The SAEs, layer by layer"),
    ]
    HELP = """# Specialists

Each cell is the best specialist of a category in an SAE: strong texts inside the category less
strong texts outside. A text is strong when its mean activation is at least a quarter of the
feature's strongest text. A star says found: q below 0.05 (exact permutation over texts). The list
ranks every feature for the cell under the cursor; **enter** goes into the list, and again opens the
feature. **t** turns the list to the SAEs, layer by layer: the share of texts the most frequent
feature is active in (coverage), the peak activation, how many categories have a specialist and how
good they are. **/** filters, **s** and **S** sort, `*`, **n** and **=** as in Features. Other
thresholds, and what padding would do: `find_specialists`, `padding_effect` in 8.
"""

    def compose(self) -> ComposeResult:
        yield ViewBar("specialists")
        with Horizontal(classes="beside"):
            with Container(id="specialists"):
                yield Heatmap(id="matrix")
                yield VirtualTable(_COLUMNS, id="ranked")
                yield VirtualTable(_LAYERS, id="layers")
            yield Preview()
        yield StatusBar(id="status")
        yield KeyBar()

    def open(self, place: RunPlace) -> None:
        self._run, self._saes = place.run, self.workspace.store.run(place.run).info.saes
        self._categories: list[str] = []
        self._at = self._listed = self._wanted = None
        with_layers, self._begins_with_layers = self._begins_with_layers, False
        self.query_one("#layers").display = with_layers
        self.query_one("#ranked").display = not with_layers
        self.query_one(Preview).set_class(with_layers, "-lacking")
        self.query_one("#matrix").focus()
        store = self.workspace.store

        def question(session: Session) -> tuple[pl.DataFrame, Lack | None]:
            rows = specialist_matrix(session, place.run)
            if len(rows):
                return rows, None
            return rows, why_nothing(session, store, place, "specialists")

        self.ask("matrix", question, lambda found: self._shown(*found))
        self.ask("layers", lambda session: layer_progression(session, place.run), self._layers)

    _begins_with_layers = False
    _at: tuple[Selection, str] | None = None
    """SAE and category of the cell under the cursor."""
    _listed: tuple[Selection, str] | None = None
    """Those that the list is of."""
    _wanted: int | None = None
    """The row that is opened once the list of the cell is there."""
    _cell_rests: Timer | None = None
    _saes: Sequence[SaeInfo] = ()
    _category: str | None = None
    _column: str | None = None
    """Category and SAE of the cell that words ask for."""

    def address(self) -> Told:
        words = ["layers"] if self.query_one("#layers").display else []
        if self._at is None:
            return super().address()
        (selection, category), seen = self._at, self.workspace.selection
        words += [selection.sae.sae_id] if selection != seen else []
        return replace(super().address(), category=category, show=",".join(words) or None)

    def turn_to(self, told: Told) -> None:
        words = told.show.split(",") if told.show else []
        run = self.workspace.store.run(self.here.run).info if self.here else None
        saes = [sae.sae_id for sae in run.saes] if run else []
        self._category, self._begins_with_layers = told.category, "layers" in words
        for word in words:
            self.one_of(("layers", *saes), word)
        self._column = next((word for word in words if word in saes), None)

    def _shown(self, rows: pl.DataFrame, lack: Lack | None) -> None:
        self.show_lack(lack, self.query_one("#matrix"), self.query_one(Preview))
        if lack is not None:
            self.query_one("#ranked").display = False
            self.say("no specialists")
            return
        self.query_one(Preview).set_class(self.query_one("#layers").display, "-lacking")
        self._categories = sorted(rows["category"].unique())
        found = {(r["category"], r["sae_id"]): r for r in rows.iter_rows(named=True)}
        cells = [
            [_cell(found.get((category, sae.sae_id))) for sae in self._saes]
            for category in self._categories
        ]
        heatmap = self.query_one("#matrix", Heatmap)
        current = self.workspace.selection
        ids = [sae.sae_id for sae in self._saes]
        wanted = self._column or (current.sae.sae_id if current else "")
        column = ids.index(wanted) if wanted in ids else 0
        known = self._category in self._categories
        row = self._categories.index(self._category or "") if known else heatmap.cursor[0]
        self._category = self._column = None
        heatmap.cursor = (row, column)
        heatmap.show(self._categories, [_short(sae) for sae in self._saes], cells)

    @on(Heatmap.Moved)
    def _moved(self, event: Heatmap.Moved) -> None:
        if event.row >= len(self._categories) or event.column >= len(self._saes):
            return  # of a run that has been left since
        category, sae = self._categories[event.row], self._saes[event.column]
        self._at, self._wanted = (Selection(self._run, sae), category), None
        if self._cell_rests is not None:
            self._cell_rests.stop()
        self.workspace.tasks.cancel(self, "ranked")
        if self._listed is None:
            self._rank()
        else:
            self._cell_rests = self.set_timer(PEEK_AFTER, self._rank)

    def _rank(self) -> None:
        """List the features of the cell under the cursor."""
        if self._cell_rests is not None:
            self._cell_rests.stop()
        if self._at is None:
            return
        at, (selection, category) = self._at, self._at
        run, sae = selection.run, selection.sae

        def question(session: Session) -> pl.DataFrame:
            rows = ranked_specialists(session, run, sae.sae_id, category, MOST_ROWS)
            return with_meanings(session, rows, FeatureColumns(run, sae.sae_id))

        def answer(rows: pl.DataFrame) -> None:
            self._listed = at
            self.show_rows(self.query_one("#ranked", VirtualTable), rows)
            n = rows.filter((pl.col("score") > 0) & (pl.col("q") < 0.05)).height
            best = rows.row(0, named=True) if len(rows) else None
            self.say(
                f"{category} in {sae.sae_id}",
                f"{n} of {len(rows):,} features found",
                f"{best['n_in']} texts inside, {best['n_out']} outside" if best else "",
                f"best q {show_probability(best['q']).strip()}" if best else "",
            )
            if self._wanted is not None:
                self._open(self._wanted)

        self.ask("ranked", question, answer)

    @on(Heatmap.Chosen)
    def _into(self) -> None:
        self.query_one("#layers" if self.query_one("#layers").display else "#ranked").focus()
        if self._listed != self._at:
            self._rank()

    def _layers(self, rows: pl.DataFrame) -> None:
        self.show_rows(self.query_one("#layers", VirtualTable), _with_bars(rows), _LAYERS)

    def action_turn(self) -> None:
        """From the ranked features to the layers, and back."""
        layers, ranked = self.query_one("#layers"), self.query_one("#ranked")
        layers.display, ranked.display = not layers.display, layers.display
        self.query_one(Preview).set_class(layers.display, "-lacking")
        if ranked.has_focus or layers.has_focus:
            self._into()

    @on(VirtualTable.Chosen, "#ranked")
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        if self._listed == self._at:
            self._open(event.row)
        else:  # typed ahead of its list
            self._wanted = event.row

    def _open(self, row: int) -> None:
        self._wanted = None
        if self._listed is not None:
            ids = self.frame("ranked")["feature_id"].to_list()
            self.open_feature(self._listed[0], ids, row)

    def features_of(self, table: VirtualTable) -> FeatureColumns | None:
        if self._listed is None or table.id != "ranked":
            return None
        return FeatureColumns(self._listed[0].run, self._listed[0].sae.sae_id)

    def feature_in_view(self) -> FeaturePlace | None:
        row = self.query_one("#ranked", VirtualTable).cursor_row
        if self._listed is None or row >= len(self.frame("ranked")):
            return None
        return FeaturePlace(self._listed[0], int(self.frame("ranked")["feature_id"][row]))

    def look(self, table: VirtualTable) -> Look | None:
        place = self.feature_in_view() if table.id == "ranked" else None
        return look_at_feature(place)

    def step_back(self) -> bool:
        """Out of the list."""
        is_inside = self.query_one("#ranked").has_focus or self.query_one("#layers").has_focus
        if is_inside:
            self.query_one("#matrix").focus()
        return is_inside


def _with_bars(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows of `layer_progression`, with coverage and peak as figures and bars."""

    def bars(name: str) -> list[str]:
        values = [value or 0.0 for value in rows[name].to_list()]
        top = max(values, default=0.0) or 1.0
        return [f"{number(v):>6} {'█' * round(v / top * _BAR)}" for v in values]

    found = rows.select("n_found", "n_categories").rows()
    return rows.with_columns(
        pl.Series("coverage", bars("coverage"), pl.String),
        pl.Series("peak", bars("peak_activation"), pl.String),
        pl.Series("found", [f"{n or 0} of {of or 0}" for n, of in found], pl.String),
    )


def _short(sae: SaeInfo) -> str:
    """A layer and a stream in six cells."""
    return f"{sae.layer} {sae.stream[:3]}"


def _cell(row: dict | None) -> HeatCell:
    if row is None:
        return HeatCell("·", None)
    share = max(row["score"], 0) / row["n_in"]
    return HeatCell(f"{row['score']}{'*' if row['is_found'] else ''}", share)
