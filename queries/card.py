"""One feature as a card: its facts, and its contexts with every token shaded.

A card is text in a terminal and HTML in a notebook. What comes from data is escaped in both; the
HTML has no script and loads nothing.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from energylens.db.store import Reader
from energylens.queries.contexts import context_tokens, feature_contexts
from energylens.queries.display import number, visible, visible_token
from energylens.queries.explanations import feature_explanations
from energylens.queries.features import Feature, promoted_tokens
from energylens.queries.pages.environment import environment
from energylens.queries.shading import SNIPPET, ShadedToken, digit, glyphs, shade_rgb, shaded_tokens

_N_EXPLANATIONS = 3
_N_TOKENS = 8
"""Promoted and suppressed tokens that are told."""


@dataclass(frozen=True)
class Piece:
    """One token, or several that share a character."""

    text: str
    is_special: bool
    activation: float | None
    """The strongest of its tokens; None where none is active."""
    share: float
    """Of the feature's strongest activation, 0 to 1; 0 where it is not active."""


@dataclass(frozen=True)
class CardContext:
    """The tokens around a feature's peak in one context."""

    text_id: int
    category: str | None
    peak: float
    pieces: tuple[Piece, ...]
    is_cut_before: bool
    is_cut_after: bool


@dataclass(frozen=True, repr=False)
class FeatureCard:
    """What is known of one feature, to look at; `record` and `contexts` are there to compute with.

    `print(card)` gives plain text, in colour where stdout is a terminal that has colours; the last
    line of a notebook's cell shows the HTML.
    """

    record: Feature
    explanations: tuple[str, ...]
    promoted: tuple[str, ...]
    suppressed: tuple[str, ...]
    contexts: tuple[CardContext, ...]
    """Those in which it is strongest, the strongest first."""

    def __repr__(self) -> str:
        return self.as_text(with_colour=_has_colours())

    def _repr_html_(self) -> str:
        return self.as_html()

    def as_text(self, with_colour: bool = False) -> str:
        """Lines of text; a digit from ¹ to ⁹ follows each token on which the feature is active."""
        facts = _facts(self)
        width = max((len(name) for name, _ in facts), default=0)
        lines = [_title(self.record), *(f"  {name:<{width}}  {said}" for name, said in facts)]
        for context in self.contexts:
            drawn = "".join(_as_text(piece, with_colour) for piece in context.pieces)
            lines += ["", f"  {_heading(context)}", f"  {_cut(drawn, context)}"]
        return "\n".join(lines)

    def as_html(self) -> str:
        """A fragment of HTML, styles inside; a token's title is its activation."""
        return (
            environment()
            .get_template("card.html")
            .render(title=_title(self.record), facts=_facts(self), contexts=self.contexts)
        )


def feature_card(reader: Reader, record: Feature, k: int) -> FeatureCard:
    """The card of a feature with the `k` contexts in which it is strongest."""
    run, sae, number_ = record.run_id, record.sae_id, record.feature_id
    said = feature_explanations(reader, run, sae, number_)["description"].head(_N_EXPLANATIONS)
    tokens = promoted_tokens(reader, run, sae, number_)
    found = feature_contexts(reader, run, sae, number_, k=k)
    return FeatureCard(
        record=record,
        explanations=tuple(said),
        promoted=_tokens(tokens, "top"),
        suppressed=_tokens(tokens, "bottom"),
        contexts=tuple(_context(reader, record, row) for row in found.iter_rows(named=True)),
    )


def _tokens(rows: pl.DataFrame, direction: str) -> tuple[str, ...]:
    return tuple(rows.filter(direction=direction)["token"].head(_N_TOKENS))


def _context(reader: Reader, record: Feature, row: dict[str, Any]) -> CardContext:
    """One row of `feature_contexts` with its tokens around the peak."""
    rows = context_tokens(
        reader, record.run_id, row["context_id"], record.sae_id, record.feature_id
    )
    tokens = shaded_tokens(rows)
    peak = next((n for n, t in enumerate(tokens) if t.token_index == row["token_index"]), 0)
    first, end = max(0, peak - SNIPPET), min(len(tokens), peak + SNIPPET + 1)
    return CardContext(
        text_id=row["text_id"],
        category=row["category"],
        peak=row["activation"],
        pieces=card_pieces(tokens[first:end], record.max_activation),
        is_cut_before=first > 0,
        is_cut_after=end < len(tokens),
    )


def card_pieces(tokens: Sequence[ShadedToken], strongest: float | None) -> tuple[Piece, ...]:
    """Tokens as they are drawn; `strongest` is the activation that has the fullest shade."""
    found = []
    for glyph in glyphs(tokens):
        inside = tokens[glyph.first : glyph.end]
        active = [t.activation for t in inside if t.activation is not None]
        activation = max(active, key=abs, default=None)
        share = 0.0 if activation is None else abs(activation) / (strongest or abs(activation))
        found.append(Piece(glyph.text, inside[0].is_special, activation, min(share, 1.0)))
    return tuple(found)


def _title(record: Feature) -> str:
    return f"Feature {record.feature_id} of {visible(record.sae_id)} in {visible(record.run_id)}"


def _facts(card: FeatureCard) -> list[tuple[str, str]]:
    """Names and values, in the order in which they are read."""
    record = card.record
    said = [("said to be", visible(text)) for text in card.explanations]
    if record.n_active:
        dense = ", dense" if record.is_dense else ""
        said += [
            ("active", f"on {record.n_active:,} tokens in {record.n_texts:,} texts"),
            ("density", f"{number(record.density, 4)}{dense}"),
            (
                "activation",
                f"{number(record.mean_activation)} at the mean, "
                f"{number(record.max_activation)} at most",
            ),
        ]
    else:
        said.append(("silent", "active on no token that is not masked"))
    if record.top_category is not None:
        category = f"{visible(record.top_category)}, selectivity {number(record.selectivity)}"
        said.append(("category", category))
    for name, tokens in (("promotes", card.promoted), ("suppresses", card.suppressed)):
        if tokens:
            said.append((name, "  ".join(map(visible_token, tokens))))
    return said


def _heading(context: CardContext) -> str:
    category = "" if context.category is None else f"  {visible(context.category)}"
    return f"text {context.text_id}{category}  peak {number(context.peak)}"


def _cut(drawn: str, context: CardContext) -> str:
    before = "… " if context.is_cut_before else ""
    after = " …" if context.is_cut_after else ""
    return f"{before}{drawn}{after}"


def _as_text(piece: Piece, with_colour: bool) -> str:
    text = visible(piece.text)
    if piece.activation is None:
        return text
    text += digit(piece.share)
    if not with_colour:
        return text
    paper, ink = (";".join(map(str, rgb)) for rgb in shade_rgb(piece.share))
    return f"\x1b[48;2;{paper}m\x1b[38;2;{ink}m{text}\x1b[0m"


def _has_colours() -> bool:
    """Whether what is printed now goes to a terminal that shows colours."""
    is_terminal = bool(getattr(sys.stdout, "isatty", bool)())
    return is_terminal and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
