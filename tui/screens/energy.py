"""Energy: the landscape of a text, layer by token, and the hardest texts of the run."""

from typing import ClassVar

import polars as pl
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Static

from db.store import Session
from queries.display import number, visible_token
from queries.energies import (
    category_summary,
    energy_trajectory,
    settling_layers,
    text_behaviour,
)
from tui.modals.choose import Choose
from tui.screens.analysis import AnalysisScreen
from tui.screens.columns import numeric, text, whole
from tui.screens.masking import MaskingScreen
from tui.screens.text import TextScreen
from tui.state import Selection
from tui.widgets.heatmap import HeatCell, Heatmap
from tui.widgets.key_bar import KeyBar
from tui.widgets.status_bar import StatusBar
from tui.widgets.view_bar import ViewBar
from tui.widgets.virtual_table import VirtualTable

MOST_TEXTS = 2_000
MOST_TOKENS = 400
"""Tokens of a text that are drawn; longer ones are cut, and the status line says so."""
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
_BARS = "▁▂▃▄▅▆▇█"


class EnergyScreen(MaskingScreen, AnalysisScreen):
    """Texts, hardest first; entering one draws its energies, a row for each layer."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "tokens", "Tokens", id="energy.tokens", tooltip="The text with its features"),
        Binding("f", "category", "Category", id="energy.category", tooltip="Texts of one kind"),
        Binding("n", "hardest(1)", "Next peak", id="energy.next", tooltip="Next hardest token"),
    ]
    HELP = """# Energy

Texts by mean energy (surprisal of the next token, nats), the hardest first. **enter** draws one: a
column for each token, a row for each layer of the lens, dark low and light high, with the energy in
each cell. The lines under it follow the token under the cursor through the layers, and say where
its likeliest next token settles. **t** shows the text with the features active at each token, **f**
lists the texts of one category. **n** goes to the next hardest token, **esc** back. **s** and **S**
sort the list by the column under the cursor. **M** chooses which masked tokens (special, first
ones, sinks) count in the means of the list.
"""

    def compose(self) -> ComposeResult:
        yield ViewBar("energy")
        with Vertical(id="energy"):
            yield VirtualTable(_TEXTS, id="texts")
            yield Heatmap(label_width=7, cell_width=7, id="landscape")
            yield Static("", id="trajectory", markup=False)
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self._category: str | None = None
        self._text_id = -1
        self._tokens = pl.DataFrame()
        self._lens = pl.DataFrame()
        self._drawn = ""
        self._show_text(False)
        super().on_mount()

    def open(self, selection: Selection) -> None:
        self._show_text(False)
        run, wanted, shown = selection.run, self._category, self.workspace.unmasked.asked
        self.ask(
            "texts",
            lambda session: text_behaviour(session, run, wanted, MOST_TEXTS, **shown),
            self._listed,
        )

    def _show_text(self, is_shown: bool) -> None:
        self.query_one("#texts").display = not is_shown
        self.query_one("#landscape").display = is_shown
        self.query_one("#trajectory").display = is_shown
        self.query_one("#landscape" if is_shown else "#texts").focus()

    def _listed(self, rows: pl.DataFrame) -> None:
        self.show_rows(self.query_one("#texts", VirtualTable), rows)
        self._say_list()

    def _say_list(self) -> None:
        n = self.n_all("texts")
        if n == 0:
            self.say("this run has no energies: ingest without --energies none")
            return
        shown = f"the hardest {n:,}" if n == MOST_TEXTS else f"{n:,}"
        self.say(
            f"{shown} texts, hardest first",
            self._category or "",
            self.workspace.unmasked.title,
            "enter draws, t shows features",
        )

    @on(VirtualTable.Chosen)
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        selection = self.workspace.selection
        if selection is None or event.row >= len(self.frame("texts")):
            return
        run, text_id = selection.run, int(self.frame("texts")["text_id"][event.row])

        def question(session: Session) -> tuple[pl.DataFrame, pl.DataFrame]:
            return (
                settling_layers(session, run, text_id),
                energy_trajectory(session, run, text_id),
            )

        self.ask("landscape", question, lambda found: self._draw(text_id, *found))

    def _draw(self, text_id: int, tokens: pl.DataFrame, lens: pl.DataFrame) -> None:
        if lens.is_empty():
            self.say("this run has no lens energies: ingest with --energies all")
            return
        n_all = len(tokens)
        self._tokens = tokens.head(MOST_TOKENS)
        self._lens = lens.join(self._tokens.select("token_index"), on="token_index")
        layers = sorted(self._lens["layer"].unique(), reverse=True)
        energy = {
            (r[0], r[1]): r[2] for r in self._lens.select("layer", "token_index", "energy").rows()
        }
        known = self._lens.filter(pl.col("layer") >= 0)["energy"].drop_nulls()
        top = float(known.quantile(0.98) or 1.0) if len(known) else 1.0
        ids = self._tokens["token_index"].to_list()
        cells = [[_cell(energy.get((layer, i)), top) for i in ids] for layer in layers]
        labels = [visible_token(token) for token in self._tokens["token"]]
        self._show_text(True)
        self._text_id = text_id
        cut = f"first {len(ids)} of {n_all:,} tokens" if n_all > len(ids) else f"{n_all} tokens"
        self._drawn = f"text {text_id}, {cut}"
        landscape = self.query_one("#landscape", Heatmap)
        landscape.cursor = (0, 0)
        landscape.show([f"L{layer}" if layer >= 0 else "embed" for layer in layers], labels, cells)

    @on(Heatmap.Moved)
    def _moved(self, event: Heatmap.Moved) -> None:
        token = self._tokens.row(event.column, named=True)
        own = self._lens.filter(pl.col("token_index") == token["token_index"]).sort("layer")
        self.query_one("#trajectory", Static).update(_trajectory(token, own))
        layer = own.sort("layer", descending=True).row(event.row, named=True)
        self.say(
            self._drawn,
            f"{visible_token(token['token'])} at {token['pos']}",
            f"layer {layer['layer']}: {number(layer['energy'])} nats",
            f"rank {layer['rank']}" if layer["rank"] is not None else "no next token",
        )

    def action_tokens(self) -> None:
        """Show the text under the cursor with the features active at its tokens."""
        selection = self.workspace.selection
        row = self.query_one("#texts", VirtualTable).cursor_row
        if selection is None or row >= len(self.frame("texts")):
            return
        is_drawn = self.query_one("#landscape").display
        text_id = self._text_id if is_drawn else int(self.frame("texts")["text_id"][row])
        self.app.push_screen(TextScreen(selection, text_id))

    def action_category(self) -> None:
        """List the texts of one category."""
        selection = self.workspace.selection
        if selection is None:
            return
        run = selection.run

        def choose(rows: pl.DataFrame) -> None:
            names = [name for name in rows["category"].to_list() if name is not None]
            entries = [("every category", ""), *((name, name) for name in names)]
            self.app.push_screen(Choose("Texts of which category?", entries), chosen)

        def chosen(name: str | None) -> None:
            if name is not None:
                self._category = name or None
                self.open(selection)

        self.ask("categories", lambda session: category_summary(session, run), choose)

    def masks_changed(self) -> None:
        if self.workspace.selection is not None:
            self.open(self.workspace.selection)

    def action_hardest(self, step: int) -> None:
        """Go to the next of the hardest tokens of the text, and round again."""
        if not self.query_one("#landscape").display or self._tokens.is_empty():
            return
        landscape = self.query_one("#landscape", Heatmap)
        hard = self._tokens.with_row_index("column").drop_nulls("energy")
        peaks = hard.sort("energy", descending=True).head(10)["column"].sort().to_list()
        later = [c for c in peaks if c > landscape.cursor[1]]
        if peaks:
            landscape.move_to(landscape.cursor[0], (later or peaks)[0])

    def step_back(self) -> bool:
        """From a text back to the list."""
        if not self.query_one("#landscape").display:
            return False
        self._show_text(False)
        self._say_list()
        return True


def _cell(energy: float | None, top: float) -> HeatCell:
    if energy is None:
        return HeatCell("·", None)
    return HeatCell(f"{energy:.1f}" if energy < 99.95 else f"{energy:.0f}", energy / top)


def _trajectory(token: dict, own: pl.DataFrame) -> Text:
    shown = Text()
    shown.append(f"\n{visible_token(token['token'])}", "bold")
    shown.append(
        f"  next token {'right' if token['is_right'] else 'not'} on top; its likeliest settles at "
        f"layer {token['settling_layer']}\n"
        if token["is_right"] is not None
        else "  the text ends here\n"
    )
    values = [e for e in own["energy"] if e is not None]
    top = max(
        (e for e, layer in zip(values, own["layer"], strict=False) if layer >= 0), default=1.0
    )
    for row in own.iter_rows(named=True):
        energy = row["energy"]
        length = 0 if energy is None else min(int(energy / max(top, 1e-9) * 40 * 8), 40 * 8)
        bar = "█" * (length // 8) + (_BARS[length % 8 - 1] if length % 8 else "")
        name = f"L{row['layer']}" if row["layer"] >= 0 else "embed"
        shown.append(f"{name:>6} {number(energy):>8}  ")
        shown.append(f"{bar:<41}", "dim")
        shown.append(f" entropy {number(row['entropy'])}\n")
    return shown
