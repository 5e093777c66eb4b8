"""Text: one text of the run, token by token, with the features active at each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import polars as pl
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical

from energylens.db.provenance import SaeInfo
from energylens.db.store import Session
from energylens.queries.contexts import context_tokens, text_contexts, token_features
from energylens.queries.display import number, visible_token
from energylens.queries.frames import FeatureColumns
from energylens.queries.meanings import with_meanings
from energylens.queries.shading import ShadedToken, shaded_tokens
from energylens.tui.address import Told
from energylens.tui.kinds.analysis import AnalysisScreen
from energylens.tui.kinds.attributing import AttributingScreen
from energylens.tui.kinds.listing import ListingScreen
from energylens.tui.kinds.marking import MarkingScreen
from energylens.tui.kinds.preview import STACKED, Look, Preview, PreviewScreen, look_at_feature
from energylens.tui.places import Attribution, Prompt, WholeText
from energylens.tui.state import FeaturePlace, RunPlace
from energylens.tui.widgets.columns import label, numeric, text, whole
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.token_text import Texts, TokenText, go_along
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import VirtualTable

_FEATURES = (
    whole("feature_id", "feature", 8),
    label(),
    numeric("activation", "activ.", 6),
    text("sae", "SAE", 11),
    numeric("share_of_max", "of max", 6, 2),
    text("top_category", "category", 12),
)
MOST_CONTEXTS = 12
"""Contexts of a text that are drawn; the status line says when there are more."""
MOST_FEATURES = 60


class TextScreen(PreviewScreen, AttributingScreen, MarkingScreen, AnalysisScreen):
    """Tokens on one side; on the other the features of the token under the cursor."""

    VERTICAL_BREAKPOINTS = STACKED
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab,shift+tab", "turn", "Features", show=False, id="text.features"),
        Binding("down,j", "context(1)", "Part", show=False, id="text.down"),
        Binding("up,k", "context(-1)", "Part", show=False, id="text.up"),
        Binding("f", "shade", "Shade by", id="text.shade", tooltip="Shade by this feature"),
        Binding("plus", "shade_too", "Too", show=False, id="text.shade_too", tooltip="By it too"),
        Binding("p", "prompt", "Edit", id="text.prompt", tooltip="Change the text and run it"),
        Binding("v", "digits", "Digits", id="text.digits", tooltip="Digits beside the shades"),
    ]
    HELP = """# Text

**left** and **right** go from token to token, **up** and **down** from part to part; beside them
stand the features active there, strongest first, with the layer and the stream of their SAE.
**tab** goes to that list: **f** shades the whole text by the feature under the cursor, **+** by it
too (each by its share of its own highest in the text), **enter** opens it, `*`, **n** and **=**
star, note and compare it. **p** runs the part in focus again, to be changed. **/** filters, **s**
and **S** sort the list. **v** writes digits beside the shades, **A** shows
the features behind what follows the token under the cursor.
"""

    def __init__(self, place: WholeText) -> None:
        super().__init__()
        self._run, self._text_id = place.run, place.text_id
        self._shades = [place.shade] if place.shade is not None else []
        self._place = ""
        self._part = 0
        """The part the cursor is in, or was in before it went to the list."""

    def compose(self) -> ComposeResult:
        yield ViewBar("energy")
        with Horizontal(id="text"):
            yield Texts(id="text-contexts")
            with Vertical(id="text-about"):
                yield VirtualTable(_FEATURES, id="text-features")
                yield Preview()
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.open(self.here)

    @property
    def here(self) -> RunPlace:
        """The run of the text; the SAE in view, where it is one of that run."""
        place = self.workspace.place
        return place if place is not None and place.run == self._run else RunPlace(self._run)

    def names(self) -> list[str]:
        return [self._run]

    def address(self) -> Told:
        parts = list(self.query(TokenText))
        token = parts[self._part].token.token_index if self._part < len(parts) else None
        shades = " ".join(f"{sae}:{feature}" for sae, feature in self._shades)
        told = replace(super().address(), text=self._text_id, token=token, show=shades or None)
        # the list is of the token under the cursor, which is what is in focus else
        is_in_list = self.query_one("#text-features").has_focus
        return replace(told, pane="text-features" if is_in_list or told.filter else None)

    def take(self, told: Told) -> None:
        for shade in (told.show or "").split():
            sae, _, feature = shade.rpartition(":")
            if feature.isdecimal() and self.workspace.sae_of(self._run, sae) is not None:
                self._shades.append((sae, int(feature)))
        self._begins = told
        self.again()

    _begins = Told()
    """What words ask for; it holds until the tokens are drawn."""

    def _go_to_token(self, parts: list[TokenText]) -> None:
        """Put the cursor on the token that words ask for, and then go along its features."""
        told, self._begins = self._begins, Told()
        for place, part in enumerate(parts):
            if told.token in [token.token_index for token in part.tokens]:
                self._part = place
                part.go_to(told.token)
        parts[min(self._part, len(parts) - 1)].focus()
        if told.of_list != Told():
            self.workspace.tasks.cancel(self, "features")
            self.forget_rows()
            ListingScreen.take(self, told)

    def open(self, place: RunPlace) -> None:
        """Draw the text again."""
        run, text_id, shades = place.run, self._text_id, tuple(self._shades)

        def question(session: Session) -> tuple[int, list[pl.DataFrame]]:
            ids = text_contexts(session, run, text_id)["context_id"].to_list()
            shown = ids[:MOST_CONTEXTS]
            drawn = [
                [context_tokens(session, run, i, sae, feature) for i in shown]
                for sae, feature in shades or ((None, None),)
            ]
            return len(ids), drawn[0] if len(drawn) == 1 else _together(drawn)

        self.ask("tokens", question, lambda found: self._draw(*found))

    def _draw(self, n_contexts: int, contexts: list[pl.DataFrame]) -> None:
        holder = self.query_one("#text-contexts", Texts)
        before = list(self.query(TokenText))
        holder.remove_children()
        tokens = [shaded_tokens(frame) for frame in contexts]
        strongest = max((abs(t.activation or 0.0) for row in tokens for t in row), default=0.0)
        shown = _said(self._shades)
        drawn = [
            TokenText(f"part {n + 1} of {n_contexts}", row, 0, strongest, is_whole=True)
            for n, row in enumerate(tokens)
        ]
        for new, old in zip(drawn, before, strict=False):
            new.cursor = old.cursor
        holder.mount_all(drawn)
        in_list = bool(before) and self.query_one("#text-features").has_focus
        if drawn and not in_list:
            self.call_after_refresh(self._go_to_token, drawn)
        cut = f"first {MOST_CONTEXTS} parts" if n_contexts > MOST_CONTEXTS else ""
        self._place = " · ".join(part for part in (f"text {self._text_id}", cut, shown) if part)
        self.say(self._place)

    @on(TokenText.Moved)
    def _moved(self, event: TokenText.Moved) -> None:
        token: ShadedToken = event.token
        parts = enumerate(self.query(TokenText))
        self._part = next((n for n, part in parts if part.has_focus), self._part)
        run = self._run
        self.say(
            self._place,
            visible_token(token.label),
            f"energy {number(token.energy)} nats",
            self._strength(token.activation),
        )

        def question(session: Session) -> pl.DataFrame:
            rows = token_features(session, run, token.token_index, k=MOST_FEATURES)
            return with_meanings(session, rows, FeatureColumns(run, None))

        self.ask("features", question, self._listed)

    def _strength(self, activation: float | None) -> str:
        """What the shade under the cursor stands for."""
        if len(self._shades) > 1:
            return f"{number(activation)} of the highest"
        return f"activation {number(activation)}" if self._shades else ""

    def _listed(self, rows: pl.DataFrame) -> None:
        names = _short_names(self.workspace.store.run(self._run).info.saes)
        named = rows.with_columns(sae=pl.col("sae_id").replace(names))
        table = self.query_one("#text-features", VirtualTable)
        self.show_rows(table, named)
        self.look_soon(table)

    @on(VirtualTable.Chosen)
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        place = self._place_at(event.row)
        if place is not None:
            self.open_feature(place.selection, [place.feature_id], 0)

    def features_of(self, table: VirtualTable) -> FeatureColumns | None:
        return FeatureColumns(self._run, None)

    def prediction_in_view(self) -> Attribution | None:
        parts = list(self.query(TokenText))
        return self.after(parts[self._part].token.token_index if self._part < len(parts) else None)

    def feature_in_view(self) -> FeaturePlace | None:
        return self._place_at(self.query_one("#text-features", VirtualTable).cursor_row)

    def look(self, table: VirtualTable) -> Look | None:
        return look_at_feature(self.feature_in_view())

    def _place_at(self, index: int) -> FeaturePlace | None:
        """The feature in a row of the list."""
        if index >= len(self.frame("text-features")):
            return None
        row = self.frame("text-features").row(index, named=True)
        selection = self.workspace.sae_of(self._run, row["sae_id"])
        return None if selection is None else FeaturePlace(selection, int(row["feature_id"]))

    def action_turn(self) -> None:
        """From the text to the features of its token, and back."""
        features, parts = self.query_one("#text-features"), list(self.query(TokenText))
        if not features.has_focus:
            features.focus()
        elif parts:
            parts[min(self._part, len(parts) - 1)].focus()

    def action_context(self, by: int) -> None:
        """Move the cursor to the part above or below."""
        go_along(list(self.query(TokenText)), by)

    def action_shade(self) -> None:
        """Shade the text by the feature under the cursor; by the same again, not at all."""
        wanted = self._wanted()
        if wanted is not None:
            self._shades = [] if self._shades == [wanted] else [wanted]
            self.again()

    def action_shade_too(self) -> None:
        """Shade the text by the feature under the cursor beside others, or by it no more."""
        wanted = self._wanted()
        if wanted is None:
            return
        if wanted in self._shades:
            self._shades.remove(wanted)
        else:
            self._shades.append(wanted)
        self.again()

    def _wanted(self) -> tuple[str, int] | None:
        """SAE and number of the feature under the cursor."""
        row = self.query_one("#text-features", VirtualTable).cursor_row
        if row >= len(self.frame("text-features")):
            return None
        chosen = self.frame("text-features").row(row, named=True)
        return str(chosen["sae_id"]), int(chosen["feature_id"])

    def action_prompt(self) -> None:
        """Run the part in focus as a prompt, to be changed."""
        drawn = list(self.query(TokenText))
        chosen = next((text for text in drawn if text.has_focus), next(iter(drawn), None))
        if chosen is not None:
            self.open_place(Prompt(self._run, chosen.plain))

    def action_digits(self) -> None:
        """Write digits beside the shades, or leave them out."""
        for drawn in self.query(TokenText):
            drawn.with_digits = not drawn.with_digits
            drawn.refresh(layout=True)


def _short_names(saes: Sequence[SaeInfo]) -> dict[str, str]:
    """The layer and the stream of each SAE, where no other one has the same; else its name."""
    places = {sae.sae_id: f"{sae.layer} {sae.stream}" for sae in saes}
    count = Counter(places.values())
    return {name: place if count[place] == 1 else name for name, place in places.items()}


def _said(shades: list[tuple[str, int]]) -> str:
    """By what the text is shaded."""
    if not shades:
        return "no shades"
    if len({sae for sae, _ in shades}) == 1:
        return f"shaded by {', '.join(str(feature) for _, feature in shades)} of {shades[0][0]}"
    return "shaded by " + ", ".join(f"{feature} of {sae}" for sae, feature in shades)


def _together(drawn: list[list[pl.DataFrame]]) -> list[pl.DataFrame]:
    """Each context's tokens with the largest of several features' shares of their own highest
    activation in the text; `drawn` has the contexts for each feature."""
    highest = pl.col("activation").abs().max()
    tops = [
        max((frame.select(highest).item() or 0.0 for frame in contexts), default=0.0)
        for contexts in drawn
    ]
    joined = []
    for places in zip(*drawn, strict=True):
        shares = [
            frame["activation"].abs() / top
            for frame, top in zip(places, tops, strict=True)
            if top > 0
        ]
        largest = pl.max_horizontal(*shares) if shares else pl.lit(None, pl.Float32)
        joined.append(places[0].with_columns(activation=largest))
    return joined
