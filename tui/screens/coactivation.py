"""Co-activation: pairs, partners followed from feature to feature, and clusters."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import polars as pl
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from energylens.db.store import Session
from energylens.queries.coactivation import coactivation_partners, coactive_clusters, coactive_pairs
from energylens.queries.frames import FeatureColumns
from energylens.queries.meanings import with_meanings
from energylens.tui.address import Told
from energylens.tui.kinds.analysis import AnalysisScreen
from energylens.tui.kinds.listing import TableState
from energylens.tui.kinds.marking import MarkingScreen
from energylens.tui.kinds.preview import Look, Preview, PreviewScreen, look_at_feature
from energylens.tui.lacks import Lack, Wanted, why_nothing
from energylens.tui.state import FeaturePlace, RunPlace
from energylens.tui.widgets.columns import MOST_ROWS, label, mark, numeric, probability, text, whole
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

MOST_Q = 0.05
LEAST_BOTH = 30
"""What holds: a q at most so high, and so many tokens at least on which both are active."""
_HELD = (
    numeric("phi", "phi", 6),
    whole("n_both", "both", 6),
    whole("n_texts_both", "texts", 5),
    numeric("n_texts_expected", "chance", 6, 2),
    probability("q", "q"),
)
_COUNTS = (
    numeric("jaccard", "Jaccard", 7),
    numeric("lift", "lift", 6),
    numeric("cosine", "cosine", 6),
)
_PAIRS = (
    whole("feature_id", "feature", 8),
    whole("partner_id", "partner", 8),
    label(width=18),
    label("partner_label", "partner's label", 18),
    *_HELD,
    *_COUNTS,
    text("top_category", "category", 13),
    text("partner_category", "partner's", 13),
)
_PARTNERS = (
    whole("partner_id", "partner", 8),
    label(width=25),
    *_HELD,
    mark("is_on_path", "on path", 7),
    *_COUNTS,
    text("top_category", "category", 13),
    mark("partner_is_dense", "dense", 5),
)
_CLUSTERS = (
    whole("cluster_id", "cluster", 8),
    whole("n_features", "features", 8),
    label(title="label of the first"),
    text("top_category", "category", 14),
    numeric("share_of_category", "share", 7),
    whole("n_active", "active", 9),
    TableColumn("members", "members", 60, lambda v: " ".join(str(m) for m in v)),
)


@dataclass(frozen=True)
class _Shown:
    """What the table shows of a place."""

    rows: pl.DataFrame
    lack: Lack | None = None


@dataclass(frozen=True)
class _Place:
    """Where one is: the pairs, the clusters, a cluster's members, or a feature's partners."""

    kind: Literal["pairs", "clusters", "partners"]
    feature_id: int | None = None
    left: TableState | None = None
    """The table when it was left."""


class CoactivationScreen(MarkingScreen, PreviewScreen, AnalysisScreen):
    """One table; going in makes the path longer, esc shortens it."""

    FIGURES: ClassVar[dict[str, str]] = {
        "coactivation_clusters": "features that are active together, by SAE",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("u", "unit", "Unit", id="coactivation.unit", tooltip="By tokens or by texts"),
        Binding("t", "clusters", "Clusters", id="coactivation.clusters", tooltip="Pairs, clusters"),
        Binding("f", "all", "All", id="coactivation.all", tooltip="Pairs that hold, or all"),
        Binding("o", "feature", "Feature", id="coactivation.feature", tooltip="Open the feature"),
    ]
    HELP = f"""# Co-activation

Pairs of features that are active together, by phi (the correlation of being active): at first those
that hold, with q at or below {MOST_Q} and at least {LEAST_BOTH} tokens together; **f** lists all
pairs. **enter** follows a feature to its partners, the cursor on the first one that is new, and a
partner to its own; one that is on the path leads back there, and **esc** one step back. **u**
counts by texts instead of tokens, **t** shows clusters (phi of at least 0.5 along the chain), **o**
opens the feature. **/** filters, **s** and **S** sort; `*`, **n** and **=** star, note and compare
the one under the cursor. **texts** is how many texts the two share, **chance** how many texts of
the same length give, and q tests the one against the other (at most: Benjamini-Hochberg over all
pairs). Jaccard is won by dense features, lift by rare ones.
"""

    def compose(self) -> ComposeResult:
        yield ViewBar("coactivation")
        with Horizontal(classes="beside"):
            yield VirtualTable(_PAIRS, id="together")
            yield Preview()
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self._unit = "token"
        self._path = [_Place("pairs")]
        self._with_all = False
        self._steps: list[int] = []
        """Features to go along at once."""

    @property
    def table(self) -> VirtualTable:
        return self.query_one("#together", VirtualTable)

    def open(self, place: RunPlace) -> None:
        self.table.focus()
        self._path = [_Place(self._path[0].kind)]
        self._path += [_Place("partners", feature) for feature in self._steps]
        self._steps = []
        self._load()

    def address(self) -> Told:
        words = ["clusters"] if self._path[0].kind == "clusters" else []
        words += ["all"] if self._with_all else []
        words += ["texts"] if self._unit == "text" else []
        words += [str(place.feature_id) for place in self._path if place.feature_id is not None]
        # a list of partners begins at the first new one
        row = self.table.cursor_row + 1 if len(self._path) > 1 else super().address().row
        return replace(super().address(), show=",".join(words) or None, row=row)

    def turn_to(self, told: Told) -> None:
        words = (told.show or "").split(",")
        self._path = [_Place("clusters" if "clusters" in words else "pairs")]
        self._with_all, self._unit = "all" in words, "text" if "texts" in words else "token"
        self._steps = [int(word) for word in words if word.isdecimal()]
        for word in words:
            if word and not word.isdecimal():
                self.one_of(("clusters", "all", "texts", "features with commas between"), word)

    def _load(self) -> None:
        here, place, unit = self.here, self._path[-1], self._unit
        if here is None:
            return
        run, sae = here.run, here.sae.sae_id if here.sae else ""
        path = [step.feature_id for step in self._path]
        store, with_all = self.workspace.store, self._with_all

        def rows_of(session: Session) -> pl.DataFrame:
            if here.sae is None:
                return pl.DataFrame()
            of = FeatureColumns(run, sae)
            if place.kind == "clusters":
                rows = coactive_clusters(session, run, sae, unit, MOST_ROWS)
                rows = rows.with_columns(pl.col("members").list.first().alias("feature_id"))
                return with_meanings(session, rows, of)
            if place.feature_id is not None:
                rows = coactivation_partners(session, run, sae, place.feature_id, unit, 50)
                rows = rows.with_columns(is_on_path=pl.col("partner_id").is_in(path))
                return with_meanings(session, rows, of, "partner_id")
            if with_all:
                rows = coactive_pairs(session, run, sae, unit, k=MOST_ROWS)
            else:
                least = LEAST_BOTH if unit == "token" else 1
                rows = coactive_pairs(
                    session, run, sae, unit, least_both=least, most_q=MOST_Q, k=MOST_ROWS
                )
            rows = with_meanings(session, rows, of)
            return with_meanings(session, rows, of, "partner_id", "partner_label")

        def question(session: Session) -> _Shown:
            rows = rows_of(session)
            if len(rows):
                return _Shown(rows)
            wanted: Wanted = "clusters" if place.kind == "clusters" else "pairs"
            if place.kind == "pairs" and not with_all:
                wanted = "pairs that hold"
            return _Shown(rows, why_nothing(session, store, here, wanted))

        self.ask("rows", question, lambda shown: self._arrived(place, shown))

    def _arrived(self, place: _Place, shown: _Shown) -> None:
        rows = shown.rows
        columns = {"pairs": _PAIRS, "clusters": _CLUSTERS, "partners": _PARTNERS}[place.kind]
        self.show_lack(shown.lack, self.table, self.query_one(Preview))
        self.show_rows(self.table, rows, columns)
        if "is_on_path" in rows.columns and len(rows):
            new = (~rows["is_on_path"]).arg_max()
            self.table.move_to(new or 0)
        self._say_place()

    def _say_place(self) -> None:
        n_rows = self.n_all("together")
        trail = " > ".join(
            f"feature {p.feature_id}" if p.feature_id is not None else p.kind for p in self._path
        )
        n = f"first {n_rows:,}" if n_rows == MOST_ROWS else f"{n_rows:,}"
        held = ""
        if self._path[-1].kind == "pairs":
            least = f", {LEAST_BOTH} tokens together" if self._unit == "token" else ""
            held = "f lists those that hold" if self._with_all else f"q <= {MOST_Q}{least}; f: all"
        self.say(trail, f"{n} rows by {self._unit}s", held)

    @on(VirtualTable.Chosen)
    def _follow(self, event: VirtualTable.Chosen) -> None:
        feature_id = self._feature_at(event.row)
        steps = [place.feature_id for place in self._path]
        if feature_id is not None and feature_id in steps:
            while len(self._path) > steps.index(feature_id) + 1:
                self.step_back()
        elif feature_id is not None:
            self._path[-1] = replace(self._path[-1], left=self.state_of(self.table))
            self._path.append(_Place("partners", feature_id))
            self._load()

    def feature_in_view(self) -> FeaturePlace | None:
        selection, feature_id = self.workspace.selection, self._feature_at(self.table.cursor_row)
        if selection is None or feature_id is None:
            return None
        return FeaturePlace(selection, feature_id)

    def _feature_at(self, row: int) -> int | None:
        if row >= len(self.frame("together")):
            return None
        found = self.frame("together").row(row, named=True)
        if "members" in found:
            return int(found["members"][0])
        on_partner = self.table.column.name.startswith("partner_")
        return int(found["partner_id" if on_partner or "feature_id" not in found else "feature_id"])

    def look(self, table: VirtualTable) -> Look | None:
        return look_at_feature(self.feature_in_view())

    def step_back(self) -> bool:
        """One step back along the path."""
        if len(self._path) == 1:
            return False
        self._path.pop()
        left = self._path[-1].left
        if left is None:
            self._load()
        else:
            self.restore(self.table, left)
            self._say_place()
        return True

    def action_unit(self) -> None:
        """Count by texts instead of tokens, and back."""
        self._unit = "text" if self._unit == "token" else "token"
        self._path = [replace(place, left=None) for place in self._path]
        self._load()

    def action_all(self) -> None:
        """From the pairs that hold to all of them, and back."""
        self._with_all = not self._with_all
        self._path = [_Place("pairs")]
        self._load()

    def action_clusters(self) -> None:
        """Clusters instead of pairs, and back."""
        self._path = [_Place("pairs" if self._path[0].kind == "clusters" else "clusters")]
        self._load()

    def action_feature(self) -> None:
        """Open the feature under the cursor."""
        place = self.feature_in_view()
        if place is not None:
            self.open_feature(place.selection, [place.feature_id], 0)
