"""The energy landscape of one text: a column for each token, a row for each layer."""

from dataclasses import replace
from functools import partial
from typing import ClassVar

import polars as pl
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.timer import Timer
from textual.widgets import Static

from energylens.db.store import Session
from energylens.queries.display import number, visible_token
from energylens.queries.energies import energy_trajectory, settling_layers
from energylens.tui.address import Told
from energylens.tui.export import ViewFigure
from energylens.tui.kinds.attributing import AttributingScreen
from energylens.tui.kinds.base import PEEK_AFTER
from energylens.tui.kinds.lacking import LackingScreen
from energylens.tui.lacks import Lack, why_nothing
from energylens.tui.places import Attribution, Landscape, WholeText
from energylens.tui.previews import text_preview
from energylens.tui.state import RunPlace
from energylens.tui.widgets.heatmap import HeatCell, Heatmap
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar

MOST_TOKENS = 400
"""Tokens of a text that are drawn; longer ones are cut, and the status line says so."""
_BARS = "▁▂▃▄▅▆▇█"
_BESIDE_BARS = 36
"""Cells of a layer's name and figures."""


class LandscapeScreen(AttributingScreen, LackingScreen):
    """A heatmap, and under it the way of the cursor's token through the layers."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "tokens", "Tokens", id="landscape.tokens", tooltip="With its features"),
        Binding("n", "hardest", "Next peak", id="landscape.next", tooltip="Next hardest token"),
    ]
    HELP = """# Energy of a text

A column for each token, a row for each layer of the lens, dark low and light high, with the energy
(surprisal of the next token, nats) in each cell. The lines under it follow the token under the
cursor through the layers, and say where its likeliest next token settles. **n** goes to the next of
the ten hardest tokens, **t** shows the text with the features active at each token, **A** the
features behind what follows the one under the cursor; **esc** goes back to the list.
"""

    def __init__(self, place: Landscape) -> None:
        super().__init__()
        self._run, self._text_id = place.run, place.text_id
        self._token_index = place.token_index
        self._tokens = pl.DataFrame()
        self._lens = pl.DataFrame()
        self._drawn = ""
        self._rest: Timer | None = None

    @property
    def here(self) -> RunPlace:
        return RunPlace(self._run)

    def names(self) -> list[str]:
        return [self._run]

    def address(self) -> Told:
        row, column = self.query_one(Heatmap).cursor
        token = None if self._tokens.is_empty() else int(self._tokens["token_index"][column])
        told = replace(super().address(), page="landscape", text=self._text_id, token=token)
        return replace(told, row=row + 1 if row > 0 else None)

    def take(self, told: Told) -> None:
        self._layer = (told.row or 1) - 1

    _layer = 0
    """Row under the cursor at first."""

    def figures(self) -> list[ViewFigure]:
        title = f"energy of text {self._text_id} by token and layer"
        return [ViewFigure("energy_landscape", title, self._run, self._text_id)]

    def compose(self) -> ComposeResult:
        yield ViewBar("energy")
        with Vertical(id="energy"):
            yield Heatmap(label_width=7, cell_width=7, id="landscape")
            yield Static("", id="trajectory", markup=False)
            with VerticalScroll(id="landscape-text", classes="pane", can_focus=False):
                yield Static("", id="landscape-words", markup=False)
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one(Heatmap).focus()
        run, text_id = self._run, self._text_id

        def question(session: Session) -> tuple[pl.DataFrame, pl.DataFrame, Lack | None]:
            lens = energy_trajectory(session, run, text_id)
            lack = None
            if lens.is_empty():
                lack = why_nothing(session, self.workspace.store, self.here, "layers")
            return settling_layers(session, run, text_id), lens, lack

        self.workspace.tasks.ask(self, "landscape", question, lambda found: self._draw(*found))

    def _draw(self, tokens: pl.DataFrame, lens: pl.DataFrame, lack: Lack | None) -> None:
        if lack is not None:
            self.show_lack(lack, self.query_one(Heatmap))
            self.say(f"text {self._text_id}", "t shows it with its features")
            return
        n_all = len(tokens)
        self._tokens = _around(tokens, self._token_index)
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
        cut = f"{len(ids)} of {n_all:,} tokens" if n_all > len(ids) else f"{n_all} tokens"
        self._drawn = f"text {self._text_id}, {cut}"
        landscape = self.query_one(Heatmap)
        landscape.cursor = (self._layer, 0)
        landscape.show([f"L{layer}" if layer >= 0 else "embed" for layer in layers], labels, cells)
        if self._token_index in ids:
            # it can scroll as far only once it has been laid out
            self.call_after_refresh(landscape.move_to, self._layer, ids.index(self._token_index))

    @on(Heatmap.Moved)
    def _moved(self, event: Heatmap.Moved) -> None:
        token = self._tokens.row(event.column, named=True)
        own = self._lens.filter(pl.col("token_index") == token["token_index"]).sort("layer")
        width = self.query_one("#trajectory", Static).content_size.width
        self.query_one("#trajectory", Static).update(_trajectory(token, own, width))
        if self._rest is not None:
            self._rest.stop()
        self._rest = self.set_timer(PEEK_AFTER, partial(self._read, int(token["token_index"])))
        layer = own.sort("layer", descending=True).row(event.row, named=True)
        self.say(
            self._drawn,
            f"{visible_token(token['token'])} at {token['pos']}",
            f"layer {layer['layer']}: {number(layer['energy'])} nats",
            f"rank {layer['rank']}" if layer["rank"] is not None else "no next token",
        )

    def _read(self, token_index: int) -> None:
        """Show the text about the token, where there is room below."""
        pane, run, text_id = self.query_one("#landscape-words", Static), self._run, self._text_id
        if self.query_one("#landscape-text").size.height:
            self.workspace.tasks.ask(
                self,
                "words",
                lambda session: text_preview(session, run, text_id, token_index),
                pane.update,
            )

    def action_tokens(self) -> None:
        """Show the text with the features active at its tokens."""
        self.open_place(WholeText(self._run, self._text_id))

    def prediction_in_view(self) -> Attribution | None:
        if self._tokens.is_empty():
            return None
        return self.after(int(self._tokens["token_index"][self.query_one(Heatmap).cursor[1]]))

    def action_hardest(self) -> None:
        """Go to the next of the hardest tokens of the text, and round again."""
        if self._tokens.is_empty():
            return
        landscape = self.query_one(Heatmap)
        hard = self._tokens.with_row_index("column").drop_nulls("energy")
        peaks = hard.sort("energy", descending=True).head(10)["column"].sort().to_list()
        later = [c for c in peaks if c > landscape.cursor[1]]
        if peaks:
            landscape.move_to(landscape.cursor[0], (later or peaks)[0])


def _around(tokens: pl.DataFrame, token_index: int | None) -> pl.DataFrame:
    """As many tokens as are drawn: the first ones, or those around one further on."""
    places = tokens["token_index"].to_list()
    at = places.index(token_index) if token_index in places else 0
    first = max(0, min(at - MOST_TOKENS // 2, len(tokens) - MOST_TOKENS))
    return tokens.slice(first, MOST_TOKENS)


def _cell(energy: float | None, top: float) -> HeatCell:
    if energy is None:
        return HeatCell("·", None)
    return HeatCell(f"{energy:.1f}" if energy < 99.95 else f"{energy:.0f}", energy / top)


def _trajectory(token: dict, own: pl.DataFrame, width: int) -> Text:
    """A bar for each layer, as long as there is room for."""
    shown, longest = Text(no_wrap=True, overflow="ellipsis"), max(4, min(40, width - _BESIDE_BARS))
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
        eighths = 8 * longest
        length = 0 if energy is None else min(int(energy / max(top, 1e-9) * eighths), eighths)
        bar = "█" * (length // 8) + (_BARS[length % 8 - 1] if length % 8 else "")
        name = f"L{row['layer']}" if row["layer"] >= 0 else "embed"
        shown.append(f"{name:>6} {number(energy):>8}  ")
        shown.append(f"{bar:<{longest + 1}}", "dim")
        shown.append(f" entropy {number(row['entropy'])}\n")
    return shown
