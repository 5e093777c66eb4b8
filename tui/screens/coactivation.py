"""Co-activation: pairs, partners followed from feature to feature, and clusters."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import polars as pl
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from energylens.db.store import Session
from energylens.queries.coactivation import coactivation_partners, coactive_clusters, coactive_pairs
from energylens.tui.kinds.analysis import AnalysisScreen
from energylens.tui.kinds.listing import TableState
from energylens.tui.kinds.marking import MarkingScreen
from energylens.tui.state import FeaturePlace, Selection
from energylens.tui.widgets.columns import LABEL, MOST_ROWS, mark, numeric, probability, text, whole
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

_COUNTS = (
    numeric("phi", "phi", 6),
    numeric("jaccard", "Jaccard", 7),
    numeric("lift", "lift", 6),
    numeric("cosine", "cosine", 6),
    whole("n_both", "both", 6),
    probability("q", "q texts"),
)
_PAIRS = (
    whole("feature_id", "feature", 8),
    whole("partner_id", "partner", 8),
    *_COUNTS,
    text("top_category", "category", 13),
    text("partner_category", "partner's", 13),
)
_PARTNERS = (
    whole("partner_id", "partner", 8),
    *_COUNTS,
    text("top_category", "category", 13),
    mark("partner_is_dense", "dense", 5),
    LABEL,
)
_CLUSTERS = (
    whole("cluster_id", "cluster", 8),
    whole("n_features", "features", 8),
    text("top_category", "category", 14),
    numeric("share_of_category", "share", 7),
    whole("n_active", "active", 9),
    TableColumn("members", "members", 60, lambda v: " ".join(str(m) for m in v)),
)


@dataclass(frozen=True)
class _Place:
    """Where one is: the pairs, the clusters, a cluster's members, or a feature's partners."""

    kind: Literal["pairs", "clusters", "partners"]
    feature_id: int | None = None
    left: TableState | None = None
    """The table when it was left."""


class CoactivationScreen(MarkingScreen, AnalysisScreen):
    """One table; going in makes the path longer, esc shortens it."""

    FIGURES: ClassVar[dict[str, str]] = {
        "coactivation_clusters": "features that are active together, by SAE",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("u", "unit", "Unit", id="coactivation.unit", tooltip="By tokens or by texts"),
        Binding("t", "clusters", "Clusters", id="coactivation.clusters", tooltip="Pairs, clusters"),
        Binding("o", "feature", "Feature", id="coactivation.feature", tooltip="Open the feature"),
    ]
    HELP = """# Co-activation

Pairs of features that are active together, by phi (the correlation of being active). **enter**
follows a feature to its partners, and a partner to its own; **esc** goes back. **u** counts by
texts instead of tokens, **t** shows clusters (phi of at least 0.5 along the chain), **o** opens the
feature. **/** filters, **s** and **S** sort; `*`, **n** and **=** star, note and compare the one
under the cursor. Jaccard is won by dense features, lift by rare ones; q says whether the two share
more texts than texts of the same length give (at most: Benjamini-Hochberg over all pairs), and
pairs with q below 0.05 come first.
"""

    def compose(self) -> ComposeResult:
        yield ViewBar("coactivation")
        yield VirtualTable(_PAIRS, id="together")
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self._unit = "token"
        self._path = [_Place("pairs")]

    @property
    def table(self) -> VirtualTable:
        return self.query_one("#together", VirtualTable)

    def open(self, selection: Selection) -> None:
        self.table.focus()
        self._path = [_Place(self._path[0].kind)]
        self._load()

    def _load(self) -> None:
        selection, place, unit = self.workspace.selection, self._path[-1], self._unit
        if selection is None:
            return
        run, sae = selection.run, selection.sae.sae_id

        def question(session: Session) -> pl.DataFrame:
            if place.kind == "clusters":
                return coactive_clusters(session, run, sae, unit, MOST_ROWS)
            if place.feature_id is not None:
                return coactivation_partners(session, run, sae, place.feature_id, unit, 50)
            return coactive_pairs(session, run, sae, unit, k=MOST_ROWS)

        self.ask("rows", question, lambda rows: self._shown(place, rows))

    def _shown(self, place: _Place, rows: pl.DataFrame) -> None:
        columns = {"pairs": _PAIRS, "clusters": _CLUSTERS, "partners": _PARTNERS}[place.kind]
        self.show_rows(self.table, rows, columns)
        self._say_place()

    def _say_place(self) -> None:
        n_rows = self.n_all("together")
        trail = " > ".join(
            f"feature {p.feature_id}" if p.feature_id is not None else p.kind for p in self._path
        )
        selection = self.workspace.selection
        n = f"first {n_rows:,}" if n_rows == MOST_ROWS else f"{n_rows:,}"
        self.say(
            trail if n_rows else f"{trail}: none found",
            f"{n} rows by {self._unit}s",
            selection.title if selection else "",
        )

    @on(VirtualTable.Chosen)
    def _follow(self, event: VirtualTable.Chosen) -> None:
        feature_id = self._feature_at(event.row)
        if feature_id is not None:
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
        on_partner = self.table.column.name == "partner_id"
        return int(found["partner_id" if on_partner or "feature_id" not in found else "feature_id"])

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

    def action_clusters(self) -> None:
        """Clusters instead of pairs, and back."""
        self._path = [_Place("pairs" if self._path[0].kind == "clusters" else "clusters")]
        self._load()

    def action_feature(self) -> None:
        """Open the feature under the cursor."""
        place = self.feature_in_view()
        if place is not None:
            self.open_feature(place.selection, [place.feature_id], 0)
