"""Two features side by side: their figures, how they go together, and where each is strongest."""

from dataclasses import dataclass

import polars as pl
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Static

from energylens.db.notes import Note
from energylens.db.store import Session
from energylens.queries.coactivation import coactive_pair
from energylens.queries.contexts import context_tokens, feature_contexts
from energylens.queries.display import number, show_probability, visible_token
from energylens.queries.efas import feature_efas
from energylens.queries.features import (
    Feature,
    feature,
    feature_categories,
    promoted_tokens,
    similar_features,
)
from energylens.queries.notes import note_of
from energylens.tui.address import Told
from energylens.tui.kinds.base import LensScreen
from energylens.tui.places import TwoFeatures
from energylens.tui.sources import string_rows
from energylens.tui.state import FeaturePlace
from energylens.tui.widgets.columns import SIDES, sides
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.token_text import TokenText, context_text
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import VirtualTable

N_CONTEXTS = 3
"""Contexts drawn on either side."""


@dataclass(frozen=True)
class Side:
    """What is known of one of the two features."""

    place: FeaturePlace
    record: Feature
    note: Note
    categories: dict[str | None, float]
    """Mean activation by category of text."""
    efas: pl.DataFrame
    promoted: list[str]
    contexts: list[tuple[dict, pl.DataFrame]]


class CompareFeaturesScreen(LensScreen):
    """A row for each figure, a column for each feature; contexts below."""

    HELP = """# Two features side by side

One row for each figure. The line above says how the two go together over the tokens of the run:
both active, phi, Jaccard, and **within**, which asks whether they meet more often within texts than
their counts there give. **tab** goes to the contexts, **left** and **right** from token to token.
**e** writes the table to a file.
"""

    def __init__(self, place: TwoFeatures) -> None:
        super().__init__()
        self._places = place.one, place.other

    def names(self) -> list[str]:
        places = [place.selection for place in self._places]
        return list(dict.fromkeys([*(p.run for p in places), *(p.sae.sae_id for p in places)]))

    def address(self) -> Told:
        (own, one), (run, other) = (
            (place.selection.run, f"{place.selection.sae.sae_id}:{place.feature_id}")
            for place in self._places
        )
        return Told(run=own, feature=one, other_run=run if run != own else None,
                    other_feature=other)  # fmt: skip

    def compose(self) -> ComposeResult:
        yield ViewBar("features")
        yield Static("comparing ...", id="pair", markup=False)
        with Vertical(id="compared"):
            yield VirtualTable(sides(self.app.size.width), id="sides")
            with Horizontal(id="both"):
                yield VerticalScroll(id="side-0", can_focus=False)
                yield VerticalScroll(id="side-1", can_focus=False)
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#sides").focus()
        one, other = self._places
        self.say(
            f"{one.feature_id} of {one.selection.sae.sae_id}",
            f"{other.feature_id} of {other.selection.sae.sae_id}",
        )

        def question(session: Session) -> tuple[Side, Side, str]:
            sides = _side(session, one), _side(session, other)
            return *sides, _together(session, one, other)

        self.workspace.tasks.ask(self, "compare", question, self._show)

    def _show(self, found: tuple[Side, Side, str]) -> None:
        one, other, together = found
        self.query_one("#pair", Static).update(Text(together))
        self.query_one("#sides", VirtualTable).show(string_rows(_rows(one, other), SIDES))
        for number_, side in enumerate((one, other)):
            self.query_one(f"#side-{number_}").mount_all(_contexts(side))

    @on(TokenText.Moved)
    def _moved(self, event: TokenText.Moved) -> None:
        token = event.token
        self.say(
            visible_token(token.label),
            f"activation {number(token.activation, 4)}",
            f"energy {number(token.energy)} nats",
            f"token {token.token_index}",
        )


def _side(session: Session, place: FeaturePlace) -> Side:
    run, sae, wanted = place.selection.run, place.selection.sae.sae_id, place.feature_id
    categories = feature_categories(session, run, sae, wanted)
    promoted = promoted_tokens(session, run, sae, wanted).filter(pl.col("direction") == "top")
    contexts = feature_contexts(session, run, sae, wanted, N_CONTEXTS)
    return Side(
        place=place,
        record=feature(session, run, sae, wanted),
        note=note_of(session, run, sae, wanted),
        categories=dict(categories.select("category", "mean_activation").iter_rows()),
        efas=feature_efas(session, run, sae, wanted),
        promoted=promoted["token"].to_list(),
        contexts=[
            (row, context_tokens(session, run, row["context_id"], sae, wanted))
            for row in contexts.iter_rows(named=True)
        ],
    )


def _together(session: Session, one: FeaturePlace, other: FeaturePlace) -> str:
    """How two features of a run go together, in a line or two."""
    run, sae, partner_sae = one.selection.run, one.selection.sae, other.selection.sae
    if run != other.selection.run:
        return "of two runs: energylens compare pairs the features of their SAEs by activation"
    rows = coactive_pair(
        session, run, sae.sae_id, one.feature_id, other.feature_id, partner_sae.sae_id
    )
    by_unit = {row["unit"]: row for row in rows.iter_rows(named=True)}
    token, text = by_unit["token"], by_unit["text"]
    said = [
        f"both active on {token['n_both']:,} tokens in {text['n_both']:,} texts",
        f"phi {number(token['phi'])}",
        f"Jaccard {number(token['jaccard'])}",
        f"cosine of activations {number(token['cosine'])}",
        f"within texts z {number(token['z_within'], 2)}",
    ]
    if sae == partner_sae:
        near = similar_features(session, run, sae.sae_id, one.feature_id)
        own = near.filter(pl.col("neighbour_id") == other.feature_id)["cosine"].to_list()
        said.append(
            f"decoders' cosine {number(own[0])}" if own else "decoders not among the nearest"
        )
    return " · ".join(said)


def _rows(one: Side, other: Side) -> list[tuple[str, str, str]]:
    sides = one, other
    rows: list[tuple[str, str, str]] = []

    def row(what: str, *values: str) -> None:
        rows.append((what, *values))  # type: ignore[arg-type]

    row("feature", *(str(side.record.feature_id) for side in sides))
    row("SAE", *(side.record.sae_id for side in sides))
    if one.place.selection.run != other.place.selection.run:
        row("run", *(side.place.selection.run for side in sides))
    row("star, note", *(_noted(side.note) for side in sides))
    row("active tokens", *(f"{side.record.n_active:,}" for side in sides))
    row("active texts", *(f"{side.record.n_texts:,}" for side in sides))
    row("density", *(number(side.record.density) for side in sides))
    row("max activation", *(number(side.record.max_activation) for side in sides))
    row("mean activation", *(number(side.record.mean_activation) for side in sides))
    row("category", *(side.record.top_category or "·" for side in sides))
    row("selectivity", *(number(side.record.selectivity) for side in sides))
    row("decoder norm", *(number(side.record.decoder_norm) for side in sides))
    row("promotes", *(" ".join(visible_token(t) for t in side.promoted[:6]) for side in sides))
    for variant in dict.fromkeys(v for side in sides for v in side.efas["variant"].to_list()):
        row(f"EFAS within, {variant}", *(_efas(side, variant) for side in sides))
    for category in dict.fromkeys(c for side in sides for c in side.categories):
        means = (number(side.categories.get(category)) for side in sides)
        row(f"mean in {category or '·'}", *means)
    return rows


def _noted(note: Note) -> str:
    return f"{'★ ' if note.is_starred else ''}{note.note or ''}".strip() or "·"


def _efas(side: Side, variant: str) -> str:
    own = side.efas.filter(pl.col("variant") == variant)
    if own.is_empty():
        return "·"
    row = own.row(0, named=True)
    q = show_probability(row["q"]).strip()
    return f"{number(row['within'])}  t {number(row['t'], 2)}  q {q}"


def _contexts(side: Side) -> list[Static | TokenText]:
    if not side.contexts:
        return [Static("No context: the feature is silent here.", markup=False)]
    strongest = max(abs(row["activation"]) for row, _ in side.contexts)
    drawn: list[Static | TokenText] = []
    for row, tokens in side.contexts:
        heading = f"{number(row['activation'])}  {row['category'] or ''}  text {row['text_id']}"
        drawn.append(context_text(row, tokens, strongest, heading))
    return drawn
