"""Prompt: a text of one's own, read as the run's texts were: energies, features, routing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import polars as pl
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from energylens.protocol import PromptRequest, PromptResult, Reading
from energylens.queries.display import number, visible_token
from energylens.queries.frames import FeatureColumns
from energylens.queries.meanings import with_meanings
from energylens.tui.address import Told
from energylens.tui.kinds.asking import AskingScreen
from energylens.tui.kinds.attributing import AttributingScreen
from energylens.tui.kinds.marking import MarkingScreen
from energylens.tui.kinds.preview import STACKED, Look, Preview, PreviewScreen, look_at_feature
from energylens.tui.modals.ask_text import AskText
from energylens.tui.places import Attribution, Prompt, one_feature
from energylens.tui.state import FeaturePlace, RunPlace
from energylens.tui.widgets.columns import label, numeric, text, whole
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

_TOKENS = (
    TableColumn("pos", "pos", 4, right=True),
    TableColumn("token", "token", 12),
    TableColumn("energy", "energy", 7, right=True),
    TableColumn("difference", "other", 7, right=True),
    TableColumn("next", "next, by layer", 42),
    TableColumn("routes", "routes", 16),
)
_FEATURES = (
    whole("feature_id", "feature", 8),
    label(),
    numeric("activation", "activ.", 6),
    text("sae_id", "SAE", 25),
)
_ROWS = {"pos": pl.Int64, "sae_id": pl.String, "feature_id": pl.Int64, "activation": pl.Float64}
_TOP = 8
_LEAST_HIGH, _MOST_BESIDE = 6, 3
"""Lines of energies before a second column begins, and columns at most."""


class PromptScreen(PreviewScreen, AskingScreen, AttributingScreen, MarkingScreen):
    """Tokens on one side; the features active at the one under the cursor on the other."""

    VERTICAL_BREAKPOINTS = STACKED
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "text", "Text", id="prompt.text", tooltip="Type or change the text"),
        Binding("o", "other", "Compare", id="prompt.other", tooltip="Compare with another text"),
        Binding("tab", "app.focus_next", "Features", show=False, id="prompt.features"),
        Binding("w", "keep", "Keep", id="prompt.keep", tooltip="Store this as a run"),
        Binding("x", "cancel", "Cancel", show=False, id="prompt.cancel"),
    ]
    HELP = """# Prompt

A text through the model and SAEs of the run in view. **t** types or changes it, **o** compares it
token by token with another one (the column *other* is the other text's energy at the same place),
**tab** goes to the features of the token under the cursor, **enter** opens one, **x** stops it,
**w** stores the text as a run, **A** shows the features behind what follows the token. **/**
filters the list in focus, features by words too, **s** and **S** sort it; `*`, **n** and **=**
star, note and compare the one under the cursor. *next, by layer* is what each layer's lens would
say next, from the embedding up.
"""

    def __init__(self, place: Prompt) -> None:
        super().__init__()
        self._run_id, self._text, self._other = place.run, place.text, ""
        self._found: PromptResult | None = None
        self._features = pl.DataFrame()
        """Every feature of the text, with what it stands for."""

    @property
    def here(self) -> RunPlace:
        return RunPlace(self._run_id)

    def names(self) -> list[str]:
        return [self._run_id]

    def address(self) -> Told:
        told = replace(super().address(), page="prompt", prompt=self._text or None)
        return replace(told, sae=None, show=self._other or None, token=self._at)

    _token: int | None = None
    """The place that words ask for."""

    def take(self, told: Told) -> None:
        self._token = told.token
        if told.show:
            self._other = told.show
            self._run()
        super().take(told)

    @property
    def _at(self) -> int | None:
        """Place of the token under the cursor."""
        rows = self.frame("prompt-tokens")
        row = self.query_one("#prompt-tokens", VirtualTable).cursor_row
        return int(rows["pos"][row]) if row < len(rows) else None

    def compose(self) -> ComposeResult:
        yield ViewBar("features")
        with Horizontal(id="prompt"):
            yield VirtualTable(_TOKENS, id="prompt-tokens")
            with Vertical(id="prompt-about"):
                yield Static("", id="prompt-energies", markup=False)
                yield VirtualTable(_FEATURES, id="prompt-features")
                yield Preview()
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#prompt-tokens").focus()
        if self._text:
            self._run()
        else:
            self.start_worker(self._run_id, "t types a text")
            self.action_text()

    def _run(self, keep: bool = False) -> None:
        self.ask_worker(
            "reading",
            "prompt",
            "prompt",
            self._run_id,
            PromptRequest(self._text, self._other or None, _TOP, keep),
            PromptResult,
            self._show,
        )

    def _show(self, found: PromptResult) -> None:
        self._found = found
        routes = _routes(found.reading)
        others = [] if found.other is None else found.other.tokens
        rows = [
            (
                str(t.pos),
                visible_token(t.token),
                number(t.energy),
                number(others[t.pos].energy) if t.pos < len(others) else "",
                " ".join(visible_token(c) for c in t.continuations),
                routes.get(t.pos, ""),
            )
            for t in found.reading.tokens
        ]
        self._features = pl.DataFrame()
        names = [column.name for column in _TOKENS]
        shown = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
        table, token = self.query_one("#prompt-tokens", VirtualTable), self._token
        self._token = None
        self.show_rows(table, shown)
        if token is not None and str(token) in shown["pos"]:
            table.move_to(shown["pos"].to_list().index(str(token)))
        self._read_features(found.reading)
        energies = [t.energy for t in found.reading.tokens if t.energy is not None]
        mean = number(sum(energies) / len(energies)) if energies else "·"
        kept = f"stored as {found.kept_as}" if found.kept_as else ""
        self.say(f"{len(rows)} tokens", f"mean energy {mean} nats", kept)

    def _read_features(self, reading: Reading) -> None:
        """Look up what the features of the text stand for."""
        of = FeatureColumns(self._run_id, None)
        rows = pl.DataFrame(
            [(f.pos, f.sae_id, f.feature_id, f.activation) for f in reading.features],
            schema=_ROWS,
            orient="row",
        )

        def answer(known: pl.DataFrame) -> None:
            self._features = known
            self._moved()

        self.workspace.tasks.ask(self, "meanings", lambda s: with_meanings(s, rows, of), answer)

    @on(VirtualTable.Moved, "#prompt-tokens")
    def _moved(self) -> None:
        found, rows = self._found, self.frame("prompt-tokens")
        row = self.query_one("#prompt-tokens", VirtualTable).cursor_row
        if found is None or row >= len(rows):
            return
        pos = int(rows["pos"][row])
        token = found.reading.tokens[pos]
        self.query_one("#prompt-energies", Static).update(
            f"energy after each layer at {visible_token(token.token)}\n"
            + _energies(found.reading.layers, token.energies)
        )
        if len(self._features):
            own = self._features.filter(pl.col("pos") == pos)
            table = self.query_one("#prompt-features", VirtualTable)
            self.show_rows(table, own)
            self.look_soon(table)

    def features_of(self, table: VirtualTable) -> FeatureColumns | None:
        is_list = table.id == "prompt-features"
        return FeatureColumns(self._run_id, None) if is_list else None

    def feature_in_view(self) -> FeaturePlace | None:
        return self._place_at(self.query_one("#prompt-features", VirtualTable).cursor_row)

    def look(self, table: VirtualTable) -> Look | None:
        return look_at_feature(self.feature_in_view())

    def _place_at(self, index: int) -> FeaturePlace | None:
        """The feature in a row of the list."""
        if index >= len(self.frame("prompt-features")):
            return None
        row = self.frame("prompt-features").row(index, named=True)
        chosen = self.workspace.sae_of(self._run_id, row["sae_id"])
        return None if chosen is None else FeaturePlace(chosen, int(row["feature_id"]))

    @on(VirtualTable.Chosen, "#prompt-tokens")
    def _to_features(self) -> None:
        self.query_one("#prompt-features").focus()

    @on(VirtualTable.Chosen, "#prompt-features")
    def _open(self, event: VirtualTable.Chosen) -> None:
        place = self._place_at(event.row)
        if place is not None:
            self.open_place(one_feature(place))

    def prediction_in_view(self) -> Attribution | None:
        selection, rows = self.sae_here(), self.frame("prompt-tokens")
        row = self.query_one("#prompt-tokens", VirtualTable).cursor_row
        if selection is None or row >= len(rows):
            return None
        return Attribution(selection, int(rows["pos"][row]), self._text)

    def action_text(self) -> None:
        """Type or change the text."""

        def given(text: str | None) -> None:
            if text:
                self._text = text
                self._run()

        self.app.push_screen(AskText("Text to read", self._text), given)

    def action_other(self) -> None:
        """Compare with another text."""

        def given(text: str | None) -> None:
            if text is not None:
                self._other = text
                self._run()

        self.app.push_screen(AskText("Text to compare with", self._other or self._text), given)

    def action_keep(self) -> None:
        """Store the text as a run."""
        self._run(keep=True)


def _energies(layers: Sequence[int], energies: Sequence[float | None]) -> str:
    """An energy a layer, down one column after the other."""
    told = [
        f"{'emb' if layer < 0 else f'L{layer}':>4} {number(energy):>7}"
        for layer, energy in zip(layers, energies, strict=True)
    ]
    height = max(_LEAST_HIGH, -(-len(told) // _MOST_BESIDE))
    return "\n".join("  ".join(told[line::height]) for line in range(min(height, len(told))))


def _routes(reading: Reading) -> dict[int, str]:
    found: dict[int, list[str]] = {}
    for choice in reading.choices:
        found.setdefault(choice.pos, []).append("/".join(map(str, choice.choice_ids)))
    return {pos: " ".join(parts) for pos, parts in found.items()}
