"""EFAS: the features of an SAE ranked by how they go with the negative energy gradient."""

from dataclasses import dataclass, replace
from typing import ClassVar

import polars as pl
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.timer import Timer
from textual.widgets import Static

from energylens.db.store import Session
from energylens.queries.display import number, show_probability
from energylens.queries.efas import (
    efas_by_layer,
    efas_histogram,
    efas_ranking,
    efas_scatter,
    feature_efas,
)
from energylens.queries.frames import FeatureColumns
from energylens.queries.meanings import with_meanings
from energylens.tui.address import Told
from energylens.tui.fuzzy import Entry
from energylens.tui.kinds.analysis import AnalysisScreen
from energylens.tui.kinds.base import PEEK_AFTER
from energylens.tui.kinds.marking import MarkingScreen
from energylens.tui.lacks import Lack, why_nothing
from energylens.tui.modals.choose import Choose
from energylens.tui.modals.scatter import ScatterModal, drawn
from energylens.tui.state import FeaturePlace, RunPlace
from energylens.tui.widgets.columns import MOST_ROWS, label, numeric, probability, text, whole
from energylens.tui.widgets.histogram import bars, fit_bins
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.panes import room_in
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import VirtualTable

VARIANTS = (
    ("lens", "g of the lens energy at the SAE's place"),
    ("own", "g of the model's energy through the token's own stream"),
    ("total", "g of this and all later energies of the context"),
    ("calibration", "labels drawn from the lens: the null of a calibrated read-out"),
    ("position", "slope of the energy along the text: EFAS as first defined"),
    ("energy", "the energy itself: which features go with hard tokens; no EFAS"),
    ("drop", "what later blocks are worth: which features go with tokens that need them; no EFAS"),
)
MEANING = (
    "Not 0 says that the read-out is miscalibrated along the feature where it is active: "
    "+ under-used, - over-used. It does not say that the feature matters, nor that training made "
    "it: features of untrained models are not 0 either, many of them."
)
_COLUMNS = (
    whole("feature_id", "feature", 8),
    label(width=25),
    numeric("within", "within", 7),
    numeric("within_low", "low", 6),
    numeric("within_high", "high", 6),
    numeric("t", "t", 6),
    probability("q", "q", 7),
    probability("p", "p", 7),
    whole("n_active", "active", 6),
    text("top_category", "category", 13),
    probability("p_flip", "p flip"),
    probability("p_familywise", "p fw"),
    numeric("efas", "EFAS", 7),
    numeric("t_efas", "t EFAS", 6),
    probability("q_efas", "q EFAS"),
    numeric("smd", "smd", 7),
    numeric("gate", "gate", 8),
    numeric("dose", "dose", 8),
    numeric("attribution", "attrib.", 9),
    numeric("adjusted", "adjusted", 8),
)


@dataclass(frozen=True)
class _Found:
    """What the screen draws of one SAE and variant."""

    ranking: pl.DataFrame
    histogram: pl.DataFrame
    layers: pl.DataFrame


class EfasScreen(MarkingScreen, AnalysisScreen):
    """The ranking; on wide screens layers, distribution, and one feature in all variants."""

    FIGURES: ClassVar[dict[str, str]] = {
        "efas_distribution": "EFAS of every SAE, with its null and against q",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "variant", "Variant", id="efas.variant", tooltip="Another gradient"),
        Binding("x", "scatter", "Scatter", id="efas.scatter", tooltip="Activation and energy"),
    ]
    HELP = f"""# EFAS

Correlation of a feature's activation z with g = -dE/dz, the surest first. {MEANING}

**within** has window and position means off, so that texts which differ make none of it; **low**
to **high** is its 95 % interval, `t`, `p` and `q` are its own, clustered by text, and **p flip**
confirms them by random sign flips. **EFAS** further right keeps those means, and has another sign
at times; its t and q stand beside it. **smd** is the mean of g where active less where not, in
deviations. Only features on at least 30 tokens in 10 texts are tested. **v** takes another
gradient, **c** another SAE, **enter** opens the feature, **x** draws its activations against
energies and gradients. **/** filters, **s** and **S** sort by the column under the cursor, `*`,
**n** and **=** as in Features.
"""

    def compose(self) -> ComposeResult:
        yield ViewBar("efas")
        with Horizontal(id="efas"):
            yield VirtualTable(_COLUMNS, id="ranking")
            with VerticalScroll(id="efas-about", classes="side", can_focus=False):
                yield Static("", id="efas-layers", markup=False)
                yield Static("", id="efas-histogram", markup=False)
                yield Static("", id="efas-feature", markup=False)
                yield Static("", id="efas-scatter", markup=False)
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self._variant = "lens"
        self._rest: Timer | None = None
        self._drawn = pl.DataFrame()

    def open(self, place: RunPlace) -> None:
        self.query_one("#ranking").focus()
        run, variant, store = place.run, self._variant, self.workspace.store
        sae = place.sae.sae_id if place.sae else ""

        def question(session: Session) -> _Found | Lack:
            if (
                place.sae is None
                or (ranking := efas_ranking(session, run, sae, variant, MOST_ROWS)).is_empty()
            ):
                return why_nothing(session, store, place, "efas", variant)
            return _Found(
                with_meanings(session, ranking, FeatureColumns(run, sae)),
                efas_histogram(session, run, sae, variant, 24, of_within=True),
                efas_by_layer(session, run, variant),
            )

        self.ask("ranking", question, lambda found: self._answered(sae, found))

    def _answered(self, sae_id: str, found: _Found | Lack) -> None:
        is_missing = isinstance(found, Lack)
        table, about = self.query_one("#ranking", VirtualTable), self.query_one("#efas-about")
        self.show_lack(found if is_missing else None, table, about)
        if is_missing:
            self.show_rows(table, pl.DataFrame())
            self.say(f"gradient {self._variant}", "v takes another")
        else:
            self._shown(sae_id, found)

    def _shown(self, sae_id: str, found: _Found) -> None:
        self.show_rows(self.query_one("#ranking", VirtualTable), found.ranking)
        row = found.layers.filter(pl.col("sae_id") == sae_id).row(0, named=True)
        self.say(
            f"gradient {self._variant}",
            f"{row['n_discoveries']:,} of {row['n_tested']:,} tested at q < 0.05",
            f"rms t {number(row['rms_t'])}",
        )
        self.query_one("#efas-layers", Static).update(_layers(found.layers, self._variant))
        self._drawn = found.histogram
        self._draw_histogram()

    def _draw_histogram(self) -> None:
        width = room_in(self.query_one("#efas-about"))
        self.query_one("#efas-histogram", Static).update(_histogram(self._drawn, width))

    @on(VirtualTable.Moved)
    def _moved(self) -> None:
        if self.query_one("#efas-about").display:
            if self._rest is not None:
                self._rest.stop()
            self.workspace.tasks.cancel(self, "feature")
            self._rest = self.set_timer(PEEK_AFTER, self._peek)

    def panes_changed(self) -> None:
        self._draw_histogram()
        self._peek()

    def _peek(self) -> None:
        place = self.feature_in_view()
        if place is None:  # the filter leaves none
            for pane in ("#efas-feature", "#efas-scatter"):
                self.query_one(pane, Static).update("")
            return
        run, sae, feature_id = place.selection.run, place.selection.sae.sae_id, place.feature_id

        def question(session: Session) -> tuple[pl.DataFrame, pl.DataFrame]:
            return (
                feature_efas(session, run, sae, feature_id),
                efas_scatter(session, run, sae, feature_id),
            )

        def answer(found: tuple[pl.DataFrame, pl.DataFrame]) -> None:
            rows, points = found
            self.query_one("#efas-feature", Static).update(_feature(feature_id, rows))
            self.query_one("#efas-scatter", Static).update(drawn(points, "energy", 36, 6))

        self.ask("feature", question, answer)

    def action_scatter(self) -> None:
        """Draw the feature's activations against its tokens' energies."""
        place = self.feature_in_view()
        if place is not None:
            self.app.push_screen(ScatterModal(place))

    def feature_in_view(self) -> FeaturePlace | None:
        selection, feature_id = self.workspace.selection, self._feature_id()
        if selection is None or feature_id is None:
            return None
        return FeaturePlace(selection, feature_id)

    def _feature_id(self) -> int | None:
        row = self.query_one("#ranking", VirtualTable).cursor_row
        ranking = self.frame("ranking")
        return int(ranking["feature_id"][row]) if row < len(ranking) else None

    @on(VirtualTable.Chosen)
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        selection = self.workspace.selection
        if selection is not None:
            self.open_feature(selection, self.frame("ranking")["feature_id"].to_list(), event.row)

    def address(self) -> Told:
        return replace(super().address(), show=None if self._variant == "lens" else self._variant)

    def turn_to(self, told: Told) -> None:
        self._variant = self.one_of([name for name, _ in VARIANTS], told.show)

    def action_variant(self) -> None:
        """Ask for another gradient."""
        names = [name for name, _ in VARIANTS]

        def chosen(name: str | None) -> None:
            if name is not None:
                self._variant = name
                self.again()

        entries = [Entry(name, name, meaning) for name, meaning in VARIANTS]
        self.app.push_screen(Choose("Which gradient?", entries, names.index(self._variant)), chosen)


def _layers(rows: pl.DataFrame, variant: str) -> Text:
    shown = Text()
    shown.append(f"{MEANING}\n\n", "dim")
    shown.append(f"gradient {variant}, by SAE\n", "bold")
    shown.append(f"{'':>8}{'tested':>8}{'q<.05':>7}{'rms t':>7}{'within > 0':>12}\n", "dim")
    for row in rows.iter_rows(named=True):
        shown.append(
            f"{row['layer']:>2} {row['stream'][:5]:<5}{row['n_tested']:>8}"
            f"{row['n_discoveries']:>7}{number(row['rms_t']):>7}"
            f"{number(row['share_positive'], 2):>12}\n"
        )
    return shown


def _histogram(rows: pl.DataFrame, width: int) -> Text:
    if width < 1 or rows.is_empty() or not rows["n"].sum():
        return Text("")
    shown = Text()
    shown.append("\nwithin, of the tested features\n", "bold")
    low, high = number(rows["low"][0]), number(rows["high"][-1])
    scale = low + " " * max(1, width - len(low) - len(high)) + high
    shown.append("\n".join([*bars(fit_bins(rows["n"].to_list(), width), 3, width), scale]))
    if rows["n_null"][0] is not None:
        shown.append("\nthe same with labels drawn from the lens\n", "dim")
        shown.append("\n".join(bars(fit_bins(rows["n_null"].to_list(), width), 2, width)), "dim")
    return shown


def _feature(feature_id: int, rows: pl.DataFrame) -> Text:
    shown = Text()
    shown.append(f"\nfeature {feature_id} in every variant\n", "bold")
    shown.append(f"{'':<12}{'within':>8}{'t':>7}{'q':>9}\n", "dim")
    for row in rows.iter_rows(named=True):
        shown.append(
            f"{row['variant']:<12}{number(row['within']):>8}{number(row['t']):>7}"
            f"{show_probability(row['q']):>9}\n"
        )
    return shown
