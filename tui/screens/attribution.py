"""Attribution: the features of an SAE behind a prediction, by gradient and by ablation."""

from dataclasses import replace
from typing import ClassVar

import polars as pl
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from energylens.protocol import AttributionRequest, AttributionResult
from energylens.queries.display import number, visible_lines, visible_token
from energylens.queries.frames import FeatureColumns
from energylens.queries.meanings import with_meanings
from energylens.tui.address import Told
from energylens.tui.kinds.asking import AskingScreen
from energylens.tui.kinds.marking import MarkingScreen
from energylens.tui.kinds.preview import Look, Preview, PreviewScreen, look_at_feature
from energylens.tui.modals.ask_line import AskLine
from energylens.tui.modals.choose_sae import ChooseSae
from energylens.tui.places import Attribution, FeatureInList
from energylens.tui.state import FeaturePlace, RunPlace, Selection
from energylens.tui.widgets.columns import label, numeric, whole
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import VirtualTable

_COLUMNS = (
    whole("feature_id", "feature", 8),
    numeric("gradient", "gradient", 9),
    numeric("ablation", "ablation", 9),
    label(),
    numeric("direct", "direct", 9),
    whole("n_active", "tokens", 7),
)
_AROUND = 8
"""Tokens before the predicted one that are written out."""


class AttributionScreen(AskingScreen, MarkingScreen, PreviewScreen):
    """A line on what is explained; below, features by the size of their gradient."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "token", "Token", id="attribution.token", tooltip="Explain another token"),
        Binding("c", "choose_sae", "SAE", id="attribution.sae", tooltip="By another SAE"),
        Binding("x", "cancel", "Cancel", show=False, id="attribution.cancel"),
    ]
    HELP = """# Attribution

Which features of an SAE made the model predict what comes after a token. What is explained is that
token's logit less the mean logit. *gradient* is gradient times activation, summed over the context;
*ablation* is what the logit loses when the feature alone is taken out, measured for the twenty with
the largest gradient; *direct* is what the feature writes towards the logit at the token itself,
without later blocks. Where gradient and ablation differ, ablation is what happens.

**enter** opens a feature, **t** explains another token in place of the one that follows, **c**
takes another SAE, **x** stops it. **/** filters the list, features by words too, **s** and **S**
sort it; `*`, **n** and **=** star, note and compare the feature in the row.
"""

    def __init__(self, place: Attribution) -> None:
        super().__init__()
        self._place, self._selection = place, place.selection
        self._token: str | None = None

    @property
    def here(self) -> RunPlace:
        return RunPlace(self._selection.run, self._selection.sae)

    def address(self) -> Told:
        place, n_ctx = self._place, self.workspace.store.run(self.here.run).info.n_ctx
        first = 0 if place.context_id is None else place.context_id * n_ctx
        told = replace(super().address(), page="attribution", token=first + place.pos)
        return replace(told, prompt=place.text or None, show=self._token)

    def take(self, told: Told) -> None:
        if told.show is not None:
            self._token = told.show
            self._run()
        super().take(told)

    def compose(self) -> ComposeResult:
        yield ViewBar("features")
        with Vertical(id="attribution"):
            yield Static("", id="attribution-about", markup=False)
            with Horizontal(classes="beside"):
                yield VirtualTable(_COLUMNS, id="behind")
                yield Preview()
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#behind").focus()
        self._run()

    def _run(self) -> None:
        place = self._place
        request = AttributionRequest(
            place.text,
            self._selection.sae.sae_id,
            place.pos,
            self._token,
            context_id=place.context_id,
        )
        self.ask_worker(
            "attributing: gradients, then the largest ablated one by one",
            f"attribution at {place.pos}", "attribute", self._selection.run, request,
            AttributionResult, self._show,
        )  # fmt: skip

    def _show(self, found: AttributionResult) -> None:
        self.query_one("#attribution-about", Static).update(visible_lines(_told(found)))
        rows = pl.DataFrame(
            [(f.feature_id, f.gradient, f.ablation, f.direct, f.n_active) for f in found.features],
            schema={
                "feature_id": pl.Int64, "gradient": pl.Float64, "ablation": pl.Float64,
                "direct": pl.Float64, "n_active": pl.Int64,
            },
            orient="row",
        )  # fmt: skip
        of = FeatureColumns(self._selection.run, self._selection.sae.sae_id)
        ablated = sum(f.ablation is not None for f in found.features)

        def answer(known: pl.DataFrame) -> None:
            self.show_rows(self.query_one("#behind", VirtualTable), known, _COLUMNS)
            self.say(f"{len(known):,} active features", f"{ablated} ablated")

        self.workspace.tasks.ask(self, "meanings", lambda s: with_meanings(s, rows, of), answer)

    @on(VirtualTable.Chosen, "#behind")
    def _open(self, event: VirtualTable.Chosen) -> None:
        ids = self.frame("behind")["feature_id"]

        def id_at(row: int) -> int | None:
            return int(ids[row]) if 0 <= row < len(ids) else None

        if id_at(event.row) is not None:
            self.open_place(FeatureInList(self._selection, event.row, len(ids), id_at))

    def look(self, table: VirtualTable) -> Look | None:
        return look_at_feature(self.feature_in_view())

    def feature_in_view(self) -> FeaturePlace | None:
        rows, row = self.frame("behind"), self.query_one("#behind", VirtualTable).cursor_row
        if row >= len(rows):
            return None
        return FeaturePlace(self._selection, int(rows["feature_id"][row]))

    def action_token(self) -> None:
        """Ask for another token to explain."""

        def given(text: str | None) -> None:
            if text is not None:
                self._token = text or None
                self._run()

        hint = "a token of the vocabulary, its space included; empty for the one that follows"
        self.app.push_screen(AskLine("Explain the logit of", self._token or "", hint), given)

    def action_choose_sae(self) -> None:
        """Ask for another SAE of the run."""

        def chosen(selection: Selection | None) -> None:
            if selection is not None:
                self._selection = selection
                self._run()

        own = [one for one in self.workspace.choices if one.run == self._selection.run]
        self.app.push_screen(ChooseSae(own, self._selection), chosen)


def _told(found: AttributionResult) -> str:
    first = max(0, found.position - _AROUND)
    tokens = [visible_token(token) for token in found.tokens[first : found.position + 1]]
    before = ("… " if first else "") + "".join(tokens[:-1])
    by = found.agreement.get("gradient, ablation")
    curve = found.curve
    shares = [
        f"{n} features give {100 * share:.0f} %"
        for n, share in zip(curve.n_features, curve.faithfulness, strict=True)
        if n in (5, 20, 100)
    ]
    lines = [
        f"{before}▸{tokens[-1]}◂",
        f"{found.metric}: {number(found.value)}; without the SAE's features "
        f"{number(found.without_features)}",
        f"gradient and ablation agree by {number(by)} (Spearman)"
        + (f"; kept alone, the first {', '.join(shares)}" if shares else ""),
    ]
    return "\n".join(lines)
