"""Every text of the run with one feature's activation in it, by category."""

from dataclasses import replace

import polars as pl
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal

from energylens.queries.contexts import feature_text_means
from energylens.tui.address import Told
from energylens.tui.kinds.preview import Look, Preview, PreviewScreen
from energylens.tui.places import WholeText
from energylens.tui.previews import shaded_preview
from energylens.tui.state import FeaturePlace, RunPlace
from energylens.tui.widgets.columns import numeric, text, whole
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import VirtualTable

_COLUMNS = (
    text("category", "category", 14),
    whole("text_id", "text", 6),
    numeric("mean_activation", "mean", 8),
    numeric("max_activation", "max", 7),
    whole("n_active", "active", 6),
    whole("n_tokens", "tokens", 6),
    text("beginning", "beginning", 60),
)


class FeatureTextsScreen(PreviewScreen):
    """A specialist is inspected here: is it strong in all of its category, and nowhere else?"""

    HELP = """# Texts of a feature

Every text, category by category, the strongest first: the mean activation over the text's tokens
(what specialists are ranked by), the strongest, and on how many tokens the feature is active. **/**
filters, **s** and **S** sort by the column under the cursor. **enter** opens the text, shaded by
the feature.
"""

    def __init__(self, place: FeaturePlace) -> None:
        super().__init__()
        self._place = place

    @property
    def here(self) -> RunPlace:
        return RunPlace(self._place.selection.run, self._place.selection.sae)

    def address(self) -> Told:
        feature = f"{self._place.selection.sae.sae_id}:{self._place.feature_id}"
        return replace(super().address(), page="texts", feature=feature)

    def compose(self) -> ComposeResult:
        yield ViewBar("features")
        with Horizontal(classes="beside"):
            yield VirtualTable(_COLUMNS, id="means")
            yield Preview()
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#means").focus()
        selection, feature_id = self._place.selection, self._place.feature_id
        self.workspace.tasks.ask(
            self,
            "means",
            lambda s: feature_text_means(s, selection.run, selection.sae.sae_id, feature_id),
            self._show,
        )

    def _show(self, rows: pl.DataFrame) -> None:
        self.show_rows(self.query_one("#means", VirtualTable), rows)
        active = rows.filter(pl.col("n_active") > 0)
        self.say(
            f"Features > {self._place.feature_id} > texts",
            f"active in {len(active):,} of {len(rows):,}",
        )

    def look(self, table: VirtualTable) -> Look | None:
        rows, run = self.frame("means"), self._place.selection.run
        if table.cursor_row >= len(rows):
            return None
        text_id = int(rows["text_id"][table.cursor_row])
        shade = self._place.selection.sae.sae_id, self._place.feature_id
        return lambda session, _: shaded_preview(session, run, text_id, shade)

    @on(VirtualTable.Chosen)
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        place = self._place
        shade = place.selection.sae.sae_id, place.feature_id
        row = self.row_of(event)
        if row is not None:
            self.open_place(WholeText(place.selection.run, row["text_id"], shade))
