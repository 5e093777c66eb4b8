"""Two SAEs side by side: their figures, and the features of one that the other has too."""

from dataclasses import dataclass, replace

import polars as pl
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from energylens.db.store import Session
from energylens.queries.coactivation import matched_features
from energylens.queries.display import number
from energylens.queries.efas import efas_by_layer
from energylens.queries.specialists import layer_progression
from energylens.tui.address import Told
from energylens.tui.kinds.preview import Look, Preview, PreviewScreen, look_at_feature
from energylens.tui.places import TwoFeatures, TwoSaes
from energylens.tui.sources import string_rows
from energylens.tui.state import FeaturePlace, Selection
from energylens.tui.widgets.columns import MOST_ROWS, SIDES, numeric, sides, text, whole
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import VirtualTable

_MATCHES = (
    whole("feature_id", "one", 8),
    whole("other_feature_id", "other", 8),
    numeric("correlation", "corr.", 7),
    numeric("cosine", "cosine", 7),
    text("top_category", "category", 16),
    text("other_category", "of the other", 16),
)
_FIGURES = {
    "n_live": "live features",
    "coverage": "coverage of texts",
    "peak_activation": "peak activation",
    "n_found": "categories found",
    "mean_best_score": "mean best score",
    "mean_best_auroc": "mean best AUROC",
}
"""Columns of `layer_progression` that are shown, with what they are called."""


@dataclass(frozen=True)
class _Side:
    """What is known of one of the two SAEs."""

    selection: Selection
    progress: dict
    efas: dict


class CompareSaesScreen(PreviewScreen):
    """Figures above; below, features that are active together in both, the closest first."""

    HELP = """# Two SAEs side by side

Figures of both, and the features of the first with their best match in the second, by correlation
of activations (stored for neighbouring SAEs of a run). **tab** goes from one table to the other,
**/** filters, **s** and **S** sort them, **enter** on a match holds its two features side by side.
"""

    def __init__(self, place: TwoSaes) -> None:
        super().__init__()
        self._sides = place.one, place.other

    def names(self) -> list[str]:
        return list(dict.fromkeys(side.run for side in self._sides))

    def address(self) -> Told:
        one, other = self._sides
        told = replace(super().address(), run=one.run, sae=one.sae.sae_id)
        run = other.run if other.run != one.run else None
        return replace(told, other_run=run, other_sae=other.sae.sae_id)

    def compose(self) -> ComposeResult:
        yield ViewBar("overview")
        with Vertical(id="compared"):
            yield VirtualTable(sides(self.app.size.width), id="sides")
            with Horizontal(id="matched", classes="beside"):
                yield VirtualTable(_MATCHES, id="matches")
                yield Preview()
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#sides").focus()
        one, other = self._sides

        def question(session: Session) -> tuple[list[_Side], pl.DataFrame]:
            matches = pl.DataFrame()
            if one.run == other.run:
                ids = one.sae.sae_id, other.sae.sae_id
                matches = matched_features(session, one.run, *ids, k=MOST_ROWS)
            return [_side(session, one), _side(session, other)], matches

        self.workspace.tasks.ask(self, "compare", question, lambda found: self._compared(*found))

    def _compared(self, both: list[_Side], matches: pl.DataFrame) -> None:
        self.query_one("#sides", VirtualTable).show(string_rows(_rows(both), SIDES))
        self.query_one("#matched").display = len(matches) > 0
        if len(matches):
            self.show_rows(self.query_one("#matches", VirtualTable), matches)
        one, other = self._sides
        found = f"{len(matches):,} features of the first have a stored match"
        none = "no stored matches: they are kept for neighbouring SAEs of one run"
        self.say(f"{one.sae.sae_id} and {other.sae.sae_id}", found if len(matches) else none)

    def look(self, table: VirtualTable) -> Look | None:
        rows, row = self.frame("matches"), self.query_one("#matches", VirtualTable).cursor_row
        if row >= len(rows):
            return None
        place = FeaturePlace(self._sides[0], int(rows["feature_id"][row]))
        return look_at_feature(place)

    @on(VirtualTable.Chosen, "#matches")
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        row = self.row_of(event)
        if row is None:
            return
        one, other = self._sides
        self.open_place(
            TwoFeatures(
                FeaturePlace(one, int(row["feature_id"])),
                FeaturePlace(other, int(row["other_feature_id"])),
            )
        )


def _side(session: Session, selection: Selection) -> _Side:
    own = pl.col("sae_id") == selection.sae.sae_id
    progress = layer_progression(session, selection.run).filter(own).to_dicts()
    efas = efas_by_layer(session, selection.run, "lens").filter(own).to_dicts()
    return _Side(selection, progress[0] if progress else {}, efas[0] if efas else {})


def _rows(both: list[_Side]) -> list[tuple[str, ...]]:
    saes = [side.selection.sae for side in both]
    rows = [
        ("SAE", *(sae.sae_id for sae in saes)),
        ("run", *(side.selection.run for side in both)),
        ("hook", *(sae.hook_name for sae in saes)),
        ("architecture", *(sae.architecture for sae in saes)),
        ("features", *(f"{sae.d_sae:,}" for sae in saes)),
        ("input width", *(f"{sae.d_in:,}" for sae in saes)),
        ("L0", *(number(sae.l0) for sae in saes)),
        ("fvu", *(number(sae.fvu) for sae in saes)),
        ("CE recovered", *(number(sae.ce_loss_score) for sae in saes)),
        ("silent in the gate", *(number(sae.n_dead) for sae in saes)),
        ("dense in the gate", *(number(sae.n_dense) for sae in saes)),
        ("gate", *(sae.gate for sae in saes)),
    ]
    rows += [
        (title, *(number(side.progress.get(name)) for side in both))
        for name, title in _FIGURES.items()
    ]
    for name, title in (
        ("n_tested", "EFAS lens: tested"),
        ("n_discoveries", "  at q < 0.05"),
        ("mean_abs_efas", "  mean |EFAS|"),
    ):
        rows.append((title, *(number(side.efas.get(name)) for side in both)))
    return rows
