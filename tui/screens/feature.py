"""Feature: what one feature is, and where it is active, token by token."""

from dataclasses import replace
from typing import ClassVar, get_args

import polars as pl
from rich.cells import cell_len
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import Static

from energylens.db.store import Session
from energylens.queries.contexts import (
    activation_samples,
    context_tokens,
    feature_contexts,
    top_activations,
)
from energylens.queries.display import number, visible_token
from energylens.tui.address import Told
from energylens.tui.export import Way, page_way
from energylens.tui.feature_facts import Shown, facts, more_facts, read, said_of
from energylens.tui.kinds.attributing import AttributingScreen
from energylens.tui.kinds.base import WIDE
from energylens.tui.kinds.linking import LinkingScreen
from energylens.tui.kinds.masking import MaskingScreen
from energylens.tui.kinds.rating import RatingScreen
from energylens.tui.notices import copy
from energylens.tui.places import Attribution, FeatureInList, FeatureTexts, Lab, Origins
from energylens.tui.state import FeaturePlace, RunPlace, Selection
from energylens.tui.widgets.histogram import Histogram
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.links import Links
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.token_text import Energies, Texts, TokenText, context_text, go_along
from energylens.tui.widgets.view_bar import ViewBar

FIRST_CONTEXTS = 5
MORE_CONTEXTS = 15
MOST_CONTEXTS = 100
"""Contexts that a token is looked for in."""
"""Contexts drawn at once where they stand below each other, and how many `m` adds."""
_LINES_A_CONTEXT = 4
"""About as many lines a context takes: so many are drawn beside the facts as fill the height."""
_BESIDE_TEXT = 6
"""Cells that a text's border and the bar beside take."""
N_VALUES = 4
"""Tokens of a context whose values are told."""
N_INTERVALS = 5
_OF_ATTENTION = (".attn.hook_z", ".hook_attn_out")
"""Hooks whose values are sums over heads and tokens."""


class FeatureScreen(AttributingScreen, RatingScreen, MaskingScreen, LinkingScreen):
    """Facts on one side, contexts on the other; on a narrow screen below each other."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "step(-1)", "Prev", key_display="[", id="feature.previous"),
        Binding("right_square_bracket", "step(1)", "Next", key_display="]", id="feature.next"),
        Binding("down,j", "context(1)", "Context", show=False, id="feature.down"),
        Binding("up,k", "context(-1)", "Context", show=False, id="feature.up"),
        Binding("pagedown", "page(1)", "Page", show=False, id="feature.page_down"),
        Binding("pageup", "page(-1)", "Page", show=False, id="feature.page_up"),
        Binding("m", "more", "More", id="feature.more", tooltip="More contexts"),
        Binding("i", "intervals", "Weaker", id="feature.intervals", tooltip="From all strengths"),
        Binding("u", "energies", "Energy", id="feature.energies", tooltip="Of tokens"),
        Binding("v", "digits", "Digits", id="feature.digits", tooltip="Digits too"),
        Binding("a", "lab", "Ablate", id="feature.lab", tooltip="Run a text without it"),
        Binding("t", "texts", "Texts", id="feature.texts", tooltip="Every text, by category"),
        Binding("b", "rate", "Rate", id="feature.rate", tooltip="By the rubric: four digits"),
        Binding(
            "w", "origins", "Why", show=False, id="feature.origins", tooltip="Tokens behind it"
        ),
        Binding("y", "copy_link", "Link", show=False, id="feature.link", tooltip="Neuronpedia"),
        Binding("Y", "open_link", "Open link", show=False, id="feature.open_link"),
    ]
    HELP = """# Feature

Shades go from dark (weak) to light (the feature's strongest); **v** writes a digit from 1 to 9
beside each, **u** shades by energy instead, and again writes energies under the tokens. **up** and
**down** go from context to context, **left** and **right** from token to token: the status line
gives the exact value under the cursor. **page down** and **page up** scroll, **J** and **K** scroll
the facts beside. Over each context stand its most active tokens with their values. After the
strongest contexts come weaker ones, one from each fifth of the feature's range; **i** shows more of
those, **m** more contexts. **space** shows the whole context, **M** counts masked tokens (special,
first ones, sinks) too.

**t** lists every text by category, **a** runs the context without the feature, **A** shows the
features behind what follows the token under the cursor, **w** which tokens made it fire there,
where its SAE reads what attention puts out; `*` stars it, **n** notes something, **b** rates it by
the rubric of Towards Monosemanticity in four digits, which the facts show in its order: confidence,
consistency, completeness, specificity. **=** marks it to hold another one beside it, **e** writes
its page as HTML, **y** copies its Neuronpedia link, **Y** opens it. **[** and **]** go to the
features before and after in the list it came from, **L** to those of other SAEs it goes with, where
enter opens one; **L** again goes back to the contexts.
"""

    def __init__(self, place: FeatureInList) -> None:
        super().__init__()
        self._selection, self._row = place.selection, place.row
        self._n_rows, self._id_at = place.n_rows, place.id_at
        self._feature_id = -1
        self._n_contexts = FIRST_CONTEXTS
        self._with_digits = self._with_intervals = False
        self._energies: Energies = "hidden"

    @property
    def here(self) -> RunPlace:
        return RunPlace(self._selection.run, self._selection.sae)

    def compose(self) -> ComposeResult:
        yield ViewBar("features")
        with Container(id="feature"):
            with VerticalScroll(id="about", classes="side", can_focus=False):
                yield Static("", id="facts", markup=False)
                yield Histogram(lines=3, id="histogram")
                yield Static("", classes="more-facts", markup=False)
                yield Links(classes="more-facts")
            yield Texts(id="contexts")
            yield Static("", classes="more-facts", markup=False)
            yield Links(classes="more-facts")
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.workspace.watch_notes(self._load_facts)
        self._load()

    def on_unmount(self) -> None:
        self.workspace.leave_notes(self._load_facts)

    def feature_in_view(self) -> FeaturePlace | None:
        return FeaturePlace(self._selection, self._feature_id) if self._feature_id >= 0 else None

    def own_ways(self) -> list[Way]:
        place = self.feature_in_view()
        return [] if place is None else [page_way(self, place)]

    def _load(self) -> None:
        feature_id = self._id_at(self._row)
        if feature_id is None:
            return
        self._feature_id, self._n_contexts = feature_id, self._n_first
        self._say_place()
        self._load_facts()
        self._load_contexts()

    @property
    def _n_first(self) -> int:
        """Contexts that fill the screen."""
        width, height = self.app.size
        return max(FIRST_CONTEXTS, height // _LINES_A_CONTEXT) if width >= WIDE else FIRST_CONTEXTS

    def _load_facts(self) -> None:
        place, unmasked = self.feature_in_view(), self.workspace.unmasked
        if place is not None and self.is_running:
            self.workspace.tasks.ask(
                self, "facts", lambda session: read(session, place, unmasked), self._show
            )

    def _load_contexts(self) -> None:
        run, sae, feature_id = self._selection.run, self._selection.sae.sae_id, self._feature_id
        n, unmasked = self._n_contexts, self.workspace.unmasked
        with_intervals = self._with_intervals

        def question(session: Session) -> list[tuple[dict, pl.DataFrame]]:
            if with_intervals:
                listed = activation_samples(
                    session, run, sae, feature_id, N_INTERVALS, n // 5 + 1, **unmasked.asked
                )
            elif unmasked:
                tokens = top_activations(session, run, sae, feature_id, 20 * n, **unmasked.asked)
                contexts = tokens.unique("context_id", keep="first", maintain_order=True)
                listed = contexts.head(n).with_row_index("rank")
            else:
                listed = feature_contexts(session, run, sae, feature_id, n)
            rows = listed.to_dicts()
            if not with_intervals:
                weaker = activation_samples(
                    session, run, sae, feature_id, N_INTERVALS, 1, **unmasked.asked
                )
                rows += weaker.filter(pl.col("interval_id") < N_INTERVALS - 1).to_dicts()
            return [
                (row, context_tokens(session, run, row["context_id"], sae, feature_id))
                for row in rows
            ]

        self.workspace.tasks.ask(self, "contexts", question, self._show_contexts)

    def _show(self, shown: Shown) -> None:
        told = facts(shown.record, shown.note.is_starred, said_of(shown))
        self.query_one("#facts", Static).update(told)
        self.query_one("#histogram", Histogram).show(*shown.histogram)
        for place in self.query("Static.more-facts").results(Static):
            place.update(more_facts(shown))
        self.show_links(shown.links)

    def address(self) -> Told:
        text = next((text for text in self.query(TokenText) if text.has_focus), None)
        return replace(
            super().address(),
            feature=f"{self._selection.sae.sae_id}:{self._feature_id}",
            token=text.token.token_index if text is not None else None,
        )

    def take(self, told: Told) -> None:
        self._token = told.token
        texts = list(self.query(TokenText))
        if texts:
            self.call_after_refresh(self._go_to_token, texts)

    _token: int | None = None
    """The token that words ask for."""

    def _go_to_token(self, texts: list[TokenText]) -> None:
        """Focus the context with the token that is wanted; where none has it, draw more of them."""
        token = self._token
        there = [text for text in texts if token in [t.token_index for t in text.tokens]]
        if token is None or not there:
            texts[0].focus(scroll_visible=False)
            if token is not None and self._n_contexts <= len(texts) < MOST_CONTEXTS:
                self.action_more()
            return
        self._token = None
        there[0].go_to(token)
        there[0].focus(scroll_visible=False)
        self.call_after_refresh(there[0].scroll_visible, animate=False)

    def _show_contexts(self, found: list[tuple[dict, pl.DataFrame]]) -> None:
        holder = self.query_one("#contexts", Texts)
        holder.remove_children()
        strongest = max((abs(row["activation"]) for row, _ in found), default=0.0)
        room = holder.size.width - _BESIDE_TEXT
        texts = [
            context_text(row, tokens, strongest, _heading(n, row, tokens, room))
            for n, (row, tokens) in enumerate(found, 1)
        ]
        for text in texts:
            text.with_digits, text.energies = self._with_digits, self._energies
        if not texts:
            holder.mount(Static("No context: the feature is silent here.", markup=False))
            return
        holder.mount_all(texts)
        self.call_after_refresh(self._go_to_token, texts)

    def _say_place(self) -> None:
        self.say(
            f"Features > {self._feature_id}",
            f"{self._row + 1:,} of {self._n_rows:,}",
            self._way(),
        )

    def _way(self) -> str:
        """What else than the usual is shown."""
        said = ("from all strengths" if self._with_intervals else "",)
        said += (self.workspace.unmasked.title,)
        return ", ".join(part for part in said if part)

    @on(TokenText.Moved)
    def _token_moved(self, event: TokenText.Moved) -> None:
        token = event.token
        self.say(
            f"{visible_token(token.label)}",
            f"activation {number(token.activation, 4)}",
            f"energy {number(token.energy)} nats",
            f"pos {token.pos}",
            f"token {token.token_index}",
            f"feature {self._feature_id}",
            self._way(),
        )

    def action_step(self, by: int) -> None:
        """Go to the feature before or after in the list."""
        row = self._row + by
        if 0 <= row < self._n_rows:
            self._row = row
            self._load()

    def action_context(self, by: int) -> None:
        """Move the cursor to the context above or below."""
        go_along(list(self.query(TokenText)), by)

    def action_page(self, by: int) -> None:
        """Scroll the contexts; on a narrow screen, the page they stand on."""
        name = "#feature" if self.has_class("-narrow") else "#contexts"
        holder = self.query_one(name)
        holder.scroll_relative(y=by * holder.size.height, animate=False)

    def action_more(self) -> None:
        """Draw more contexts."""
        self._n_contexts += MORE_CONTEXTS
        self._load_contexts()

    def action_intervals(self) -> None:
        """Contexts from all strengths instead of the strongest, and back."""
        self._with_intervals = not self._with_intervals
        self._say_place()
        self._load_contexts()

    def masks_changed(self) -> None:
        self._say_place()
        self._load_facts()
        self._load_contexts()

    def action_lab(self) -> None:
        """Run the context in focus with the feature taken out."""
        texts = list(self.query(TokenText))
        chosen = next((text for text in texts if text.has_focus), next(iter(texts), None))
        if chosen is None:
            self.notify("no context to run: p types a text", markup=False)
            return
        self.open_place(Lab(FeaturePlace(self._selection, self._feature_id), chosen.plain))

    def prediction_in_view(self) -> Attribution | None:
        texts = list(self.query(TokenText))
        chosen = next((text for text in texts if text.has_focus), None)
        return self.after(None if chosen is None else chosen.token.token_index)

    def sae_here(self) -> Selection:
        return self._selection

    def action_origins(self) -> None:
        """Show which tokens made the feature fire at the one under the cursor."""
        hook = self._selection.sae.hook_name
        text = next((text for text in self.query(TokenText) if text.has_focus), None)
        if text is None or not hook.endswith(_OF_ATTENTION):
            why = "no token is chosen" if text is None else f"this SAE reads {hook}"
            self.notify(f"{why}; w explains tokens of what attention puts out", markup=False)
            return
        place = FeaturePlace(self._selection, self._feature_id)
        context_id, pos = divmod(
            text.token.token_index, self.workspace.store.run(self._selection.run).info.n_ctx
        )
        self.open_place(Origins(place, context_id, pos))

    def action_texts(self) -> None:
        """List every text with the feature's activation in it."""
        place = self.feature_in_view()
        if place is not None:
            self.open_place(FeatureTexts(place))

    def action_digits(self) -> None:
        """Write digits beside the shades, or leave them out."""
        self._with_digits = not self._with_digits
        for text in self.query(TokenText):
            text.with_digits = self._with_digits
            text.refresh(layout=True)

    def action_energies(self) -> None:
        """Shade by the energy of each token; then write it under each; then neither again."""
        shown = get_args(Energies)
        self._energies = shown[(shown.index(self._energies) + 1) % len(shown)]
        for text in self.query(TokenText):
            text.energies = self._energies
            text.refresh(layout=True)

    def action_copy_link(self) -> None:
        """Copy the feature's address on Neuronpedia."""
        address = self._address()
        if address is not None:
            copy(self, address)

    def action_open_link(self) -> None:
        """Open the feature's page on Neuronpedia in a browser, where this machine has one."""
        address = self._address()
        if address is not None:
            self.notify(f"opening {address}; y copies it", markup=False)
            self.app.open_url(address)

    def _address(self) -> str | None:
        """Where Neuronpedia shows the feature; None, and a notice, where it does not."""
        known = self._selection.sae.neuronpedia_id
        if known is None:
            self.notify("this SAE has no Neuronpedia id", markup=False)
            return None
        return f"https://www.neuronpedia.org/{known}/{self._feature_id}"


def _heading(place: int, row: dict, tokens: pl.DataFrame, room: int) -> str:
    """Where it is, and its most active tokens with their values, as many as there is room for."""
    known = tokens.filter(pl.col("activation").is_not_null())
    top = known.sort(pl.col("activation").abs(), descending=True).head(N_VALUES)
    heading = f"{place}  {row['category'] or ''}  text {row['text_id']}"
    for token, value in top.select("token", "activation").rows():
        said = f"  {visible_token(token)} {number(value)}"
        if cell_len(heading + said) > room:
            break
        heading += said
    if "interval_low" in row:
        low, high = number(row["interval_low"]), number(row["interval_high"])
        heading += f"  one of {row['n_tokens']:,} from {low} to {high}"
    return heading
