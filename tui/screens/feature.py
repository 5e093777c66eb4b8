"""Feature: what one feature is, and where it is active, token by token."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import polars as pl
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Vertical, VerticalScroll
from textual.widgets import Footer, Static

from db.store import Session
from queries.coactivation import coactivation_partners, feature_evolution
from queries.contexts import context_tokens, feature_contexts
from queries.display import number, show_probability, visible_token
from queries.efas import feature_efas
from queries.features import (
    Feature,
    feature,
    feature_categories,
    promoted_tokens,
    similar_features,
)
from tui.screens.base import LensScreen
from tui.screens.feature_facts import facts
from tui.screens.lab import LabScreen
from tui.state import Selection
from tui.widgets.histogram import Histogram
from tui.widgets.status_bar import StatusBar
from tui.widgets.token_text import TokenText, shaded_tokens
from tui.widgets.view_bar import ViewBar

FIRST_CONTEXTS = 5
MORE_CONTEXTS = 15
"""Contexts drawn at once, and how many `m` adds: each costs time to lay out."""


@dataclass(frozen=True)
class Shown:
    """Everything the screen draws of a feature but its contexts."""

    record: Feature
    categories: pl.DataFrame
    promoted: pl.DataFrame
    similar: pl.DataFrame
    partners: pl.DataFrame
    efas: pl.DataFrame
    evolution: pl.DataFrame


class FeatureScreen(LensScreen):
    """Facts on one side, contexts on the other; on a narrow screen below each other."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "step(-1)", "Prev", key_display="[", id="feature.previous"),
        Binding("right_square_bracket", "step(1)", "Next", key_display="]", id="feature.next"),
        Binding("down,j", "context(1)", "Context", show=False, id="feature.down"),
        Binding("up,k", "context(-1)", "Context", show=False, id="feature.up"),
        Binding("a", "lab", "Ablate", id="feature.lab", tooltip="Run a text without it"),
        Binding("m", "more", "More", id="feature.more", tooltip="Draw more contexts"),
        Binding("v", "digits", "Digits", id="feature.digits", tooltip="Digits beside the shades"),
        Binding("y", "copy_link", "Link", id="feature.link", tooltip="Copy the Neuronpedia link"),
    ]
    HELP = """# Feature

Shades go from dark (weak) to light (the feature's strongest); **v** writes a digit from 1 to 9
beside each. **up** and **down** go from context to context, **left** and **right** from token to
token: the status line gives the exact value under the cursor. **space** shows the whole context,
**m** more contexts, **a** runs the context without the feature, **[** and **]** go to the features
before and after in the list this one came from.
"""

    def __init__(
        self,
        selection: Selection,
        row: int,
        n_rows: int,
        id_at: Callable[[int], int | None],
    ) -> None:
        """`row` of `n_rows` is the feature's place in the list; `id_at` gives others."""
        super().__init__()
        self._selection, self._row, self._n_rows, self._id_at = selection, row, n_rows, id_at
        self._feature_id = -1
        self._n_contexts = FIRST_CONTEXTS
        self._record: Feature | None = None
        self._with_digits = False

    def compose(self) -> ComposeResult:
        yield ViewBar("features")
        with Container(id="feature"):
            with Vertical(id="about"):
                yield Static("", id="facts", markup=False)
                yield Histogram(lines=3, id="histogram")
                yield Static("", classes="more-facts", markup=False)
            yield VerticalScroll(id="contexts", can_focus=False)
            yield Static("", classes="more-facts", markup=False)
        yield StatusBar(id="status")
        yield Footer(compact=True)

    def on_mount(self) -> None:
        self._load()

    def _load(self) -> None:
        feature_id = self._id_at(self._row)
        if feature_id is None:
            return
        self._feature_id, self._n_contexts = feature_id, FIRST_CONTEXTS
        self._say_place()
        run, sae = self._selection.run, self._selection.sae.sae_id

        def question(session: Session) -> Shown:
            return Shown(
                record=feature(session, run, sae, feature_id),
                categories=feature_categories(session, run, sae, feature_id),
                promoted=promoted_tokens(session, run, sae, feature_id),
                similar=similar_features(session, run, sae, feature_id),
                partners=coactivation_partners(session, run, sae, feature_id, k=5),
                efas=feature_efas(session, run, sae, feature_id),
                evolution=feature_evolution(session, run, sae, feature_id),
            )

        self.workspace.tasks.ask(self, "facts", question, self._show)
        self._load_contexts()

    def _load_contexts(self) -> None:
        run, sae, feature_id = self._selection.run, self._selection.sae.sae_id, self._feature_id
        n = self._n_contexts

        def question(session: Session) -> list[tuple[dict, pl.DataFrame]]:
            listed = feature_contexts(session, run, sae, feature_id, n)
            return [
                (row, context_tokens(session, run, row["context_id"], sae, feature_id))
                for row in listed.iter_rows(named=True)
            ]

        self.workspace.tasks.ask(self, "contexts", question, self._show_contexts)

    def _show(self, shown: Shown) -> None:
        self._record = shown.record
        self.query_one("#facts", Static).update(facts(shown.record))
        self.query_one("#histogram", Histogram).show(
            shown.record.histogram or (),
            shown.record.min_activation or 0.0,
            shown.record.max_activation or 0.0,
        )
        for place in self.query(".more-facts").results(Static):
            place.update(_more_facts(shown))

    def _show_contexts(self, found: list[tuple[dict, pl.DataFrame]]) -> None:
        holder = self.query_one("#contexts", VerticalScroll)
        holder.remove_children()
        strongest = max((abs(row["activation"]) for row, _ in found), default=0.0)
        texts = [_token_text(row, tokens, strongest, self._with_digits) for row, tokens in found]
        if not texts:
            holder.mount(Static("No context: the feature is silent here.", markup=False))
            return
        holder.mount_all(texts)
        self.call_after_refresh(texts[0].focus, scroll_visible=False)

    def _say_place(self) -> None:
        self.query_one(StatusBar).say(
            f"Features > {self._feature_id}",
            f"{self._row + 1:,} of {self._n_rows:,}",
            self._selection.title,
        )

    @on(TokenText.Moved)
    def _token_moved(self, event: TokenText.Moved) -> None:
        token = event.token
        self.query_one(StatusBar).say(
            f"{visible_token(token.label)}",
            f"activation {number(token.activation, 4)}",
            f"energy {number(token.energy)} nats",
            f"pos {token.pos}",
            f"token {token.token_index}",
            f"feature {self._feature_id}",
        )

    def action_step(self, by: int) -> None:
        """Go to the feature before or after in the list."""
        row = self._row + by
        if 0 <= row < self._n_rows:
            self._row = row
            self._load()

    def action_context(self, by: int) -> None:
        """Move the cursor to the context above or below."""
        texts = list(self.query(TokenText))
        if not texts:
            return
        focused = next((n for n, text in enumerate(texts) if text.has_focus), -1)
        texts[max(0, min(focused + by, len(texts) - 1))].focus()

    def action_more(self) -> None:
        """Draw more contexts."""
        self._n_contexts += MORE_CONTEXTS
        self._load_contexts()

    def action_lab(self) -> None:
        """Run the context in focus with the feature taken out."""
        texts = list(self.query(TokenText))
        chosen = next((text for text in texts if text.has_focus), next(iter(texts), None))
        if chosen is None:
            self.notify("no context to run: p types a text", markup=False)
            return
        self.app.push_screen(LabScreen(self._selection, self._feature_id, chosen.plain))

    def action_digits(self) -> None:
        """Write digits beside the shades, or leave them out."""
        self._with_digits = not self._with_digits
        for text in self.query(TokenText):
            text.with_digits = self._with_digits
            text.refresh(layout=True)

    def action_copy_link(self) -> None:
        """Copy the feature's address on Neuronpedia."""
        known = self._selection.sae.neuronpedia_id
        if known is None:
            self.notify("this SAE has no Neuronpedia id", markup=False)
            return
        link = f"https://www.neuronpedia.org/{known}/{self._feature_id}"
        self.app.copy_to_clipboard(link)
        self.notify(
            f"{link}\nsent by OSC 52; in tmux it arrives after: set -s set-clipboard on",
            markup=False,
            timeout=10,
        )


def _token_text(row: dict, tokens: pl.DataFrame, strongest: float, with_digits: bool) -> TokenText:
    shaded = shaded_tokens(tokens)
    peak = next((n for n, t in enumerate(shaded) if t.token_index == row["token_index"]), 0)
    place = f"{row['category'] or ''}  text {row['text_id']}"
    heading = f"{row['rank'] + 1}  {number(row['activation'])}  {place}"
    text = TokenText(heading, shaded, peak, strongest)
    text.with_digits = with_digits
    return text


def _more_facts(shown: Shown) -> Text:
    text = Text()
    for direction, title in (("top", "promotes"), ("bottom", "suppresses")):
        tokens = shown.promoted.filter(pl.col("direction") == direction)["token"].to_list()
        text.append(f"{title:>10}  ", "dim")
        text.append("  ".join(visible_token(t) for t in tokens[:6]) or "not computed")
        text.append("\n")
    for title, rows, value in (
        ("similar", shown.similar, "cosine"),
        ("with", shown.partners, "phi"),
    ):
        name = "neighbour_id" if value == "cosine" else "partner_id"
        listed = [f"{r[name]} ({number(r[value], 2)})" for r in rows.head(3).iter_rows(named=True)]
        text.append(f"{title:>10}  ", "dim")
        text.append("  ".join(listed) or "none")
        text.append("\n")
    if len(shown.evolution) > 1:
        text.append(f"{'layers':>10}  ", "dim")
        text.append(f"{_evolution(shown.evolution)}\n")
    if len(shown.efas):
        text.append("\nEFAS by gradient (position, energy: no gradients)\n", "dim")
    for row in shown.efas.iter_rows(named=True):
        text.append(f"{row['variant']:>12}  ", "dim")
        t, q = number(row["t"], 2), show_probability(row["q"])
        text.append(f"{number(row['efas']):>7}  t {t:>6}  q {q}\n")
    text.append("\nmean activation by category\n", "dim")
    text.append(_category_bars(shown.categories))
    return text


def _evolution(rows: pl.DataFrame) -> str:
    """The feature's best matches, layer by layer."""
    return " > ".join(
        "here" if row["step"] == 0 else f"L{row['layer']} {row['at_feature']}"
        for row in rows.iter_rows(named=True)
    )


def _category_bars(rows: pl.DataFrame) -> str:
    top = max((r for r in rows["mean_activation"].to_list() if r), default=0.0)
    lines = []
    for row in rows.iter_rows(named=True):
        share = row["mean_activation"] / top if top else 0.0
        bar = "█" * round(share * 12)
        lines.append(
            f"{(row['category'] or '·')[:15]:>15} {bar:<12} {number(row['mean_activation'])} "
            f" {row['n_active_texts']} of {row['n_texts']}"
        )
    return "\n".join(lines)
