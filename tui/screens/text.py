"""Text: one text of the run, token by token, with the features active at each."""

from typing import ClassVar

import polars as pl
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll

from db.store import Session
from queries.contexts import context_tokens, text_contexts, token_features
from queries.display import number, visible_token
from tui.screens.analysis import AnalysisScreen
from tui.screens.columns import LABEL, numeric, text, whole
from tui.screens.marking import MarkingScreen
from tui.screens.prompt import PromptScreen
from tui.state import FeaturePlace, Selection
from tui.widgets.key_bar import KeyBar
from tui.widgets.status_bar import StatusBar
from tui.widgets.token_text import ShadedToken, TokenText, shaded_tokens
from tui.widgets.view_bar import ViewBar
from tui.widgets.virtual_table import VirtualTable

_FEATURES = (
    whole("feature_id", "feature", 7),
    numeric("activation", "activ.", 6),
    numeric("share_of_max", "of max", 6, 2),
    text("top_category", "category", 12),
    text("sae_id", "SAE", 24),
    LABEL,
)
MOST_CONTEXTS = 12
"""Contexts of a text that are drawn; the status line says when there are more."""
MOST_FEATURES = 60


class TextScreen(MarkingScreen, AnalysisScreen):
    """Tokens on one side; on the other the features of the token under the cursor."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", "Features", show=False, id="text.features"),
        Binding("f", "shade", "Shade by", id="text.shade", tooltip="Shade by this feature"),
        Binding("p", "prompt", "Edit", id="text.prompt", tooltip="Change the text and run it"),
        Binding("v", "digits", "Digits", id="text.digits", tooltip="Digits beside the shades"),
    ]
    HELP = """# Text

**left** and **right** go from token to token; beside them stand the features active there,
strongest first. **tab** goes to that list: **f** shades the whole text by the feature under the
cursor, **enter** opens it, `*`, **n** and **=** star, note and compare it. **p** runs the part in
focus again, to be changed. **/** filters, **s** and **S** sort the list. **v** writes digits beside
the shades.
"""

    def __init__(
        self, selection: Selection, text_id: int, shade: tuple[str, int] | None = None
    ) -> None:
        """`shade` is the SAE and the feature to shade by."""
        super().__init__()
        self._selection, self._text_id = selection, text_id
        self._shade = shade
        self._place = ""

    def compose(self) -> ComposeResult:
        yield ViewBar("energy")
        with Horizontal(id="text"):
            yield VerticalScroll(id="text-contexts", can_focus=False)
            yield VirtualTable(_FEATURES, id="text-features")
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.open(self._selection)

    def open(self, selection: Selection) -> None:
        """Draw the text again."""
        run, text_id, shade = self._selection.run, self._text_id, self._shade

        def question(session: Session) -> tuple[int, list[pl.DataFrame]]:
            ids = text_contexts(session, run, text_id)["context_id"].to_list()
            sae, feature = shade or (None, None)
            return len(ids), [
                context_tokens(session, run, i, sae, feature) for i in ids[:MOST_CONTEXTS]
            ]

        self.ask("tokens", question, lambda found: self._draw(*found))

    def _draw(self, n_contexts: int, contexts: list[pl.DataFrame]) -> None:
        holder = self.query_one("#text-contexts", VerticalScroll)
        at = next((n for n, t in enumerate(self.query(TokenText)) if t.has_focus), 0)
        holder.remove_children()
        tokens = [shaded_tokens(frame) for frame in contexts]
        strongest = max((abs(t.activation or 0.0) for row in tokens for t in row), default=0.0)
        shown = f"shaded by {self._shade[1]} of {self._shade[0]}" if self._shade else "no shades"
        drawn = [
            TokenText(f"part {n + 1} of {n_contexts}", row, 0, strongest, is_whole=True)
            for n, row in enumerate(tokens)
        ]
        holder.mount_all(drawn)
        if drawn:
            self.call_after_refresh(drawn[min(at, len(drawn) - 1)].focus)
        cut = f"first {MOST_CONTEXTS} parts" if n_contexts > MOST_CONTEXTS else ""
        self._place = " · ".join(part for part in (f"text {self._text_id}", cut, shown) if part)
        self.say(self._place, self._selection.title)

    @on(TokenText.Moved)
    def _moved(self, event: TokenText.Moved) -> None:
        token: ShadedToken = event.token
        run = self._selection.run
        self.say(
            self._place,
            visible_token(token.label),
            f"energy {number(token.energy)} nats",
            f"activation {number(token.activation)}" if self._shade else "",
        )

        def question(session: Session) -> pl.DataFrame:
            return token_features(session, run, token.token_index, k=MOST_FEATURES)

        self.ask("features", question, self._listed)

    def _listed(self, rows: pl.DataFrame) -> None:
        self.show_rows(self.query_one("#text-features", VirtualTable), rows)

    @on(VirtualTable.Chosen)
    def _chosen(self, event: VirtualTable.Chosen) -> None:
        place = self._place_at(event.row)
        if place is not None:
            self.open_feature(place.selection, [place.feature_id], 0)

    def feature_in_view(self) -> FeaturePlace | None:
        return self._place_at(self.query_one("#text-features", VirtualTable).cursor_row)

    def _place_at(self, index: int) -> FeaturePlace | None:
        """The feature in a row of the list."""
        if index >= len(self.frame("text-features")):
            return None
        row = self.frame("text-features").row(index, named=True)
        place = self._selection.run, row["sae_id"]
        own = (c for c in self.workspace.choices if (c.run, c.sae.sae_id) == place)
        selection = next(own, None)
        return None if selection is None else FeaturePlace(selection, int(row["feature_id"]))

    def action_shade(self) -> None:
        """Shade the text by the feature under the cursor; by the same again, not at all."""
        row = self.query_one("#text-features", VirtualTable).cursor_row
        if row >= len(self.frame("text-features")):
            return
        chosen = self.frame("text-features").row(row, named=True)
        wanted = (str(chosen["sae_id"]), int(chosen["feature_id"]))
        self._shade = None if wanted == self._shade else wanted
        self.open(self._selection)

    def action_prompt(self) -> None:
        """Run the part in focus as a prompt, to be changed."""
        drawn = list(self.query(TokenText))
        chosen = next((text for text in drawn if text.has_focus), next(iter(drawn), None))
        if chosen is not None:
            self.app.push_screen(PromptScreen(self._selection, chosen.plain))

    def action_digits(self) -> None:
        """Write digits beside the shades, or leave them out."""
        for drawn in self.query(TokenText):
            drawn.with_digits = not drawn.with_digits
            drawn.refresh(layout=True)
