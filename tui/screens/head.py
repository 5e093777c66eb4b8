"""One head: its scores, its skip-trigrams, where it looks, and which heads it works with."""

from dataclasses import replace
from typing import ClassVar

import polars as pl
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from energylens.db.store import Session
from energylens.queries.display import number, visible, visible_token
from energylens.queries.heads import (
    MOST_HEADS,
    composed_heads,
    head_ranking,
    head_skip_trigrams,
    head_tokens,
)
from energylens.tui.address import Told
from energylens.tui.kinds.preview import Look, Preview, PreviewScreen
from energylens.tui.places import Attention, OneHead
from energylens.tui.previews import pair_preview
from energylens.tui.state import RunPlace
from energylens.tui.widgets.columns import MOST_ROWS, numeric, text, token, whole
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import VirtualTable

_TRIGRAMS = (
    token("source", "source", 13),
    token("destination", "... at", 13),
    token("out_token", "-> out", 13),
    numeric("score", "score", 8),
    numeric("logit", "logit", 8),
    numeric("strength", "product", 8),
)
_PAIRS = (
    token("source", "looks at", 13),
    token("token", "from", 13),
    whole("distance", "back", 5),
    numeric("attention", "attent.", 8),
    numeric("strength", "moves", 8),
    text("category", "category", 11),
    whole("text_id", "text", 6),
)
_FACTS = (
    (("induction", "induction"), ("previous", "previous_token"), ("duplicate", "duplicate_token")),
    (("self", "self_token"), ("first", "first_token"), ("norm", "output_norm")),
    (("entropy", "entropy"), ("looks back", "distance")),
)
"""Titles and columns, a line each."""
_N_PARTNERS = 3
_ALL_PAIRS = 1_000_000


class HeadScreen(PreviewScreen):
    """Figures above; then what its weights say, and what it does in the texts."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", "Pairs", id="head.pairs", tooltip="To the other table"),
    ]
    HELP = """# A head

The scores of one head, in brackets what a head would have that looks at everything alike, or random
weights. **reads** and **read by** are the heads it works with, by queries (Q), keys (K) or values
(V): how much of what one writes the other reads, beyond random matrices. The upper list are its
skip-trigrams, by weights alone: at the destination it attends to the source, which makes *out*
likelier. The lower one is where it looks in the texts: the strongest pair of each context, by
attention times the norm of what the source's value writes. **tab** goes from one to the other,
**enter** on a pair shows all attention of the head in that context, which the worker computes.
**/** filters, **s** and **S** sort by the column under the cursor.
"""

    def __init__(self, place: OneHead) -> None:
        super().__init__()
        self._place = place

    @property
    def here(self) -> RunPlace:
        return RunPlace(self._place.run)

    def names(self) -> list[str]:
        return [self._place.run]

    def address(self) -> Told:
        return replace(super().address(), head=f"{self._place.layer}.{self._place.head}")

    def compose(self) -> ComposeResult:
        yield ViewBar("heads")
        with Vertical(id="head"):
            yield Static("", id="head-facts", markup=False)
            yield VirtualTable(_TRIGRAMS, id="head-trigrams")
            with Horizontal(id="head-lists", classes="beside"):
                yield VirtualTable(_PAIRS, id="head-pairs")
                yield Preview()
            yield Static("", id="head-text", markup=False)
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#head-trigrams").focus()
        place = self._place
        where = place.run, place.layer, place.head

        def question(session: Session) -> tuple[pl.DataFrame, ...]:
            return (
                head_ranking(session, place.run, k=MOST_HEADS),
                head_skip_trigrams(session, *where, k=MOST_ROWS),
                head_tokens(session, *where, k=MOST_ROWS),
                composed_heads(session, place.run, k=_ALL_PAIRS),
            )

        self.workspace.tasks.ask(self, "head", question, lambda found: self._shown(*found))

    def _shown(
        self, heads: pl.DataFrame, trigrams: pl.DataFrame, pairs: pl.DataFrame, others: pl.DataFrame
    ) -> None:
        place = self._place
        own = heads.filter((pl.col("layer") == place.layer) & (pl.col("head") == place.head))
        if own.is_empty():
            self.say(f"layer {place.layer} head {place.head} is not measured")
            return
        facts = _facts(own.row(0, named=True))
        facts.append_text(_partners(place, others))
        self.query_one("#head-facts", Static).update(facts)
        self.show_rows(self.query_one("#head-trigrams", VirtualTable), trigrams)
        self.show_rows(self.query_one("#head-pairs", VirtualTable), pairs)
        self.look_again()
        self.say(
            f"layer {place.layer} head {place.head}",
            f"{len(trigrams)} skip-trigrams, {len(pairs)} pairs",
        )

    @on(VirtualTable.Moved, "#head-pairs")
    def _moved(self) -> None:
        pairs = self.frame("head-pairs")
        at = self.query_one("#head-pairs", VirtualTable).cursor_row
        if 0 <= at < len(pairs):
            self.query_one("#head-text", Static).update(_around(pairs.row(at, named=True)))

    def look(self, table: VirtualTable) -> Look | None:
        pairs = self.frame("head-pairs")
        at = self.query_one("#head-pairs", VirtualTable).cursor_row
        if not 0 <= at < len(pairs):
            return None
        row, run = pairs.row(at, named=True), self._place.run
        context_id, pair = row["context_id"], (row["token_index"], row["source_index"])
        return lambda session, _: pair_preview(session, run, context_id, *pair)

    @on(VirtualTable.Chosen, "#head-pairs")
    def _open(self, event: VirtualTable.Chosen) -> None:
        row = self.row_of(event)
        if row is not None:
            place = self._place
            n_ctx = self.workspace.store.run(place.run).info.n_ctx
            at = row["token_index"] % n_ctx, row["source_index"] % n_ctx
            self.open_place(Attention(place, row["context_id"], *at))


def _facts(row: dict) -> Text:
    shown = Text()

    def beside(title: str, name: str) -> None:
        shown.append(f"{title} ", "dim")
        shown.append(number(row[name]), "bold")
        if f"{name}_uniform" in row:
            shown.append(f" ({number(row[f'{name}_uniform'])})", "dim")
        shown.append("  ")

    for line in _FACTS:
        for title, name in line:
            beside(title, name)
        shown.append("\n")
    for name in ("copying", "matching"):
        low, high = (number(row[f"{name}_random_{end}"], 2) for end in ("025", "975"))
        shown.append(f"{name} ", "dim")
        shown.append(number(row[name]), "bold")
        shown.append(f" (random {low} to {high})  ", "dim")
    return shown


def _partners(place: OneHead, others: pl.DataFrame) -> Text:
    """The heads it reads and is read by most."""
    shown = Text()
    for title, own, other in (("reads", "to_", ""), ("read by", "", "to_")):
        rows = others.filter(
            (pl.col(f"{own}layer") == place.layer) & (pl.col(f"{own}head") == place.head)
        ).head(_N_PARTNERS)
        if len(rows):
            shown.append(f"\n{title} ", "dim")
        for row in rows.iter_rows(named=True):
            name = f"L{row[f'{other}layer']}H{row[f'{other}head']}"
            shown.append(f"{name} {row['how']} {number(row['composition'], 2)}  ")
    return shown


def _around(row: dict) -> Text:
    """The pair in its text."""
    shown = Text(no_wrap=True, overflow="ellipsis")
    shown.append(visible(row["text_before"] or "")[-38:], "dim")
    shown.append(visible_token(row["token"]), "reverse")
    shown.append(visible(row["text_after"] or "")[:20], "dim")
    shown.append(f"  looks {row['distance']} back at ")
    shown.append(visible_token(row["source"]), "bold")
    return shown
