"""Prompt: a text of one's own, read as the run's texts were: energies, features, routing."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from energylens.errors import EnergyLensError
from energylens.protocol import PromptRequest, PromptResult, Reading
from energylens.queries.display import number, visible_token
from energylens.tui.jobs import Job
from energylens.tui.kinds.base import LensScreen
from energylens.tui.modals.ask_text import AskText
from energylens.tui.places import Prompt, one_feature
from energylens.tui.sources import string_rows
from energylens.tui.state import FeaturePlace, RunPlace
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
    TableColumn("feature", "feature", 7, right=True),
    TableColumn("activation", "activ.", 6, right=True),
    TableColumn("sae", "SAE", 25),
)
_TOP = 8


class PromptScreen(LensScreen):
    """Tokens on one side; the features active at the one under the cursor on the other."""

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
**w** stores the text as a run. *next, by layer* is what each layer's lens would say next, from the
embedding up.
"""

    def __init__(self, place: Prompt) -> None:
        super().__init__()
        self._run_id, self._text, self._other = place.run, place.text, ""
        self._job: Job | None = None
        self._found: PromptResult | None = None

    @property
    def here(self) -> RunPlace:
        return RunPlace(self._run_id)

    def names(self) -> list[str]:
        return [self._run_id]

    def compose(self) -> ComposeResult:
        yield ViewBar("features")
        with Horizontal(id="prompt"):
            yield VirtualTable(_TOKENS, id="prompt-tokens")
            with Vertical(id="prompt-about"):
                yield Static("", id="prompt-energies", markup=False)
                yield VirtualTable(_FEATURES, id="prompt-features")
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#prompt-tokens").focus()
        if self._text:
            self._run()
        else:
            self.say("t types a text")
            self.action_text()

    def _run(self, keep: bool = False) -> None:
        jobs = self.workspace.jobs
        jobs.cancel(self._job)
        self.say("reading")
        self._job = jobs.ask(
            self,
            "prompt",
            "prompt",
            self._run_id,
            PromptRequest(self._text, self._other or None, _TOP, keep),
            PromptResult,
            self._show,
            self._failed,
        )

    def _failed(self, error: EnergyLensError) -> None:
        self.say(str(error))

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
        self.query_one("#prompt-tokens", VirtualTable).show(
            string_rows(rows, [c.name for c in _TOKENS])
        )
        energies = [t.energy for t in found.reading.tokens if t.energy is not None]
        mean = number(sum(energies) / len(energies)) if energies else "·"
        kept = f"stored as {found.kept_as}" if found.kept_as else ""
        self.say(f"{len(rows)} tokens", f"mean energy {mean} nats", kept)

    @on(VirtualTable.Moved, "#prompt-tokens")
    def _moved(self) -> None:
        found = self._found
        pos = self.query_one("#prompt-tokens", VirtualTable).cursor_row
        if found is None or not 0 <= pos < len(found.reading.tokens):
            return
        token = found.reading.tokens[pos]
        layers = [
            f"{'emb' if layer < 0 else f'L{layer}':>4} {number(energy):>7}"
            for layer, energy in zip(found.reading.layers, token.energies, strict=True)
        ]
        self.query_one("#prompt-energies", Static).update(
            f"energy after each layer at {visible_token(token.token)}\n" + "\n".join(layers)
        )
        rows = [
            (str(f.feature_id), number(f.activation), f.sae_id)
            for f in found.reading.features
            if f.pos == pos
        ]
        self.query_one("#prompt-features", VirtualTable).show(
            string_rows(rows, [c.name for c in _FEATURES])
        )

    @on(VirtualTable.Chosen, "#prompt-tokens")
    def _to_features(self) -> None:
        self.query_one("#prompt-features").focus()

    @on(VirtualTable.Chosen, "#prompt-features")
    def _open(self, event: VirtualTable.Chosen) -> None:
        source = event.table.source
        row = source.row(event.row) if source is not None else None
        if row is None:
            return
        chosen = self.workspace.sae_of(self._run_id, str(row[2]))
        if chosen is not None:
            self.open_place(one_feature(FeaturePlace(chosen, int(row[0]))))

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

    def action_cancel(self) -> None:
        """Stop reading."""
        self.workspace.jobs.cancel(self._job)


def _routes(reading: Reading) -> dict[int, str]:
    found: dict[int, list[str]] = {}
    for choice in reading.choices:
        found.setdefault(choice.pos, []).append("/".join(map(str, choice.choice_ids)))
    return {pos: " ".join(parts) for pos, parts in found.items()}
