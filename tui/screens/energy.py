"""Energy: the hardest texts and tokens of a run, and what each layer makes of each category."""

from dataclasses import replace
from typing import ClassVar, Literal, cast

import polars as pl
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal

from energylens.db.store import Session
from energylens.queries.energies import (
    barrier_tokens,
    category_summary,
    drop_by_category,
    energy_by_layer,
    settling_summary,
    text_behaviour,
)
from energylens.tui.address import Told
from energylens.tui.fuzzy import Entry
from energylens.tui.kinds.analysis import AnalysisScreen
from energylens.tui.kinds.masking import MaskingScreen
from energylens.tui.kinds.preview import Look, Preview, PreviewScreen
from energylens.tui.lacks import Lack, Wanted, why_nothing
from energylens.tui.modals.choose import Choose
from energylens.tui.places import Landscape, WholeText
from energylens.tui.previews import text_preview
from energylens.tui.state import RunPlace
from energylens.tui.widgets.columns import MOST_ROWS, numeric, text, token, whole
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

_ALL = "all"
"""How the row over all categories is named."""
Shown = Literal["texts", "tokens", "layers", "drops"]
_ORDER: tuple[Shown, ...] = ("texts", "tokens", "layers", "drops")
_WANTED: dict[Shown, Wanted] = {
    "texts": "texts", "tokens": "hard tokens", "layers": "layers", "drops": "drops",
}  # fmt: skip
_BY_LAYER = ("layers", "drops")
_TEXTS = (
    whole("text_id", "text", 6),
    text("category", "category", 14),
    numeric("mean_energy", "energy", 7),
    numeric("perplexity", "perpl.", 8, 1),
    numeric("max_energy", "hardest", 8),
    numeric("mean_entropy", "entropy", 8),
    numeric("top1_rate", "right", 6),
    whole("n_tokens", "tokens", 7),
    text("beginning", "beginning", 60),
)
_TOKENS = (
    numeric("z", "z", 6, 2),
    numeric("energy", "energy", 7),
    token("token", "token", 16),
    token("next_token", "next", 16),
    whole("text_id", "text", 6),
    whole("pos", "pos", 5),
    text("category", "category", 14),
    whole("rank", "rank", 6),
    numeric("energy_before", "before", 7),
    numeric("energy_after", "after", 7),
    numeric("entropy", "entropy", 8),
)


class EnergyScreen(MaskingScreen, PreviewScreen, AnalysisScreen):
    """One table of four; entering a text or a token draws the text's landscape."""

    FIGURES: ClassVar[dict[str, str]] = {
        "energy_by_layer": "energy by layer",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("v", "turn", "Turn", id="energy.turn", tooltip="Texts, tokens, layers, drops"),
        Binding("t", "tokens", "Tokens", id="energy.tokens", tooltip="The text with its features"),
        Binding("f", "category", "Category", id="energy.category", tooltip="Of one kind only"),
    ]
    HELP = """# Energy

Texts by mean energy (surprisal of the next token, nats), the hardest first. **v** turns to the
hardest tokens of the run: those harder than both neighbours that stand out of their context (`z`,
standard deviations above its mean), with the token that came next; and from there to the layers:
the mean energy of each category under the lens after each layer, and the layer at which the
likeliest next token settles, on average. Once more: the drop, what the blocks after a layer are
worth: the energy there less that of the output; **4** with **v** lists the features that go with
it. **enter** draws a text, layer by token; on a token, from
there. **t** shows the text with the features active at each token, **f** lists one category. **/**
filters, **s** and **S** sort by the column under the cursor. **M** chooses which masked tokens
(special, first ones, sinks) count in the means of texts and layers.
"""

    def compose(self) -> ComposeResult:
        yield ViewBar("energy")
        with Horizontal(classes="beside"):
            yield VirtualTable(_TEXTS, id="texts")
            yield Preview()
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self._category: str | None = None
        self._shown: Shown = "texts"
        self.query_one("#texts").focus()

    def open(self, place: RunPlace) -> None:
        run, wanted, unmasked = place.run, self._category, self.workspace.unmasked
        kind, store = self._shown, self.workspace.store

        def rows_of(session: Session) -> pl.DataFrame:
            if kind == "texts":
                return text_behaviour(session, run, wanted, MOST_ROWS, **unmasked.asked)
            if kind == "tokens":
                return barrier_tokens(session, run, wanted, k=MOST_ROWS)
            if kind == "drops":
                return _by_category(drop_by_category(session, run, **unmasked.asked), "mean_drop")
            layers = energy_by_layer(session, run, **unmasked.asked)
            return _by_category(layers, "mean_energy", settling_summary(session, run))

        def question(session: Session) -> tuple[pl.DataFrame, Lack | None]:
            rows = rows_of(session)
            if len(rows):
                return rows, None
            return rows, why_nothing(session, store, place, _WANTED[kind])

        self.ask("energies", question, lambda found: self._listed(kind, *found))

    def _listed(self, kind: Shown, rows: pl.DataFrame, lack: Lack | None) -> None:
        self.show_lack(lack, self.query_one("#texts"))
        self.query_one(Preview).set_class(lack is not None or kind in _BY_LAYER, "-lacking")
        columns = {"texts": _TEXTS, "tokens": _TOKENS}.get(kind) or _layer_columns(rows)
        self.show_rows(self.query_one("#texts", VirtualTable), rows, columns)
        n = len(rows)
        if n == 0:
            self.say(f"no {_WANTED[kind]}", self._category or "")
            return
        shown = f"the hardest {n:,}" if n == MOST_ROWS else f"{n:,}"
        said = {
            "texts": f"{shown} texts, hardest first",
            "tokens": f"{shown} tokens, by how far they stand out",
            "layers": f"{n - 1} categories, nats after each layer",
            "drops": f"{n - 1} categories, nats that the blocks after each layer are worth",
        }
        self.say(
            said[kind],
            (self._category or "") if kind not in _BY_LAYER else "",
            self.workspace.unmasked.title if kind != "tokens" else "",
            "enter draws, t shows features" if kind not in _BY_LAYER else "",
        )

    def address(self) -> Told:
        shown = None if self._shown == "texts" else self._shown
        return replace(super().address(), show=shown, category=self._category)

    def turn_to(self, told: Told) -> None:
        self._category = told.category
        self._shown = cast("Shown", self.one_of(_ORDER, told.show))

    def action_turn(self) -> None:
        """From the texts to the hardest tokens, to the layers, to the drops, and back."""
        self._shown = _ORDER[(_ORDER.index(self._shown) + 1) % len(_ORDER)]
        self.again()

    def masks_changed(self) -> None:
        self.again()

    def _place(self, row: int) -> tuple[str, int, int | None] | None:
        """The run and text of a row, and its token where the row is one."""
        place, rows = self.here, self.frame("texts")
        if place is None or "text_id" not in rows.columns or row >= len(rows):
            return None
        at = int(rows["token_index"][row]) if "token_index" in rows.columns else None
        return place.run, int(rows["text_id"][row]), at

    def look(self, table: VirtualTable) -> Look | None:
        place = self._place(table.cursor_row)
        if place is None:
            return None
        return lambda session, _: text_preview(session, *place)

    @on(VirtualTable.Chosen)
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        place = self._place(event.row)
        if place is not None:
            self.open_place(Landscape(*place))

    def action_tokens(self) -> None:
        """Show the text under the cursor with the features active at its tokens."""
        place = self._place(self.query_one("#texts", VirtualTable).cursor_row)
        if place is not None:
            self.open_place(WholeText(*place[:2]))

    def action_category(self) -> None:
        """List the texts or tokens of one category."""
        place = self.here
        if place is None:
            self.cannot("This store holds no run yet, so there are no texts to choose from.")
            return
        run = place.run

        def choose(rows: pl.DataFrame) -> None:
            names = [name for name in rows["category"].to_list() if name is not None]
            if not names:
                self.cannot("The texts of this run are in no categories.")
                return
            entries = [Entry("every category", ""), *(Entry(name, name) for name in names)]
            self.app.push_screen(Choose("Texts of which category?", entries), chosen)

        def chosen(name: str | None) -> None:
            if name is not None:
                self._category = name or None
                self.again()

        self.ask("categories", lambda session: category_summary(session, run), choose)


def _by_category(
    layers: pl.DataFrame, value: str, settling: pl.DataFrame | None = None
) -> pl.DataFrame:
    """A row for each category, over all first: a value after each layer, and where it settles."""
    keys = ["category", "is_all"]
    if layers.is_empty():
        return pl.DataFrame()
    rows = layers.pivot("layer", index=keys, values=value, sort_columns=False)
    if settling is not None:
        means = settling.group_by(keys).agg(
            (pl.col("settling_layer") * pl.col("n_tokens")).sum() / pl.col("n_tokens").sum()
        )
        rows = rows.join(means, on=keys, how="left", nulls_equal=True, maintain_order="left")
    named = pl.when("is_all").then(pl.lit(_ALL)).otherwise("category").alias("category")
    return rows.with_columns(named).drop("is_all")


def _layer_columns(rows: pl.DataFrame) -> tuple[TableColumn, ...]:
    layers = sorted(int(name) for name in rows.columns if name.lstrip("-").isdigit())
    return (
        text("category", "category", 14),
        *([numeric("settling_layer", "settles", 7, 2)] if "settling_layer" in rows.columns else []),
        *(numeric(f"{n}", f"L{n}" if n >= 0 else "embed", 7) for n in layers),
    )
