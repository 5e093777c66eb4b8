"""What stands beside a list: what Enter would open of the row under the cursor, in short."""

from collections.abc import Mapping
from typing import Any

import polars as pl
from rich.console import Group, RenderableType
from rich.style import Style
from rich.text import Text

from energylens.db.store import Session
from energylens.queries.contexts import context_tokens, feature_contexts, text_contexts
from energylens.queries.display import number, visible, visible_token
from energylens.queries.features import feature, logit_distribution, promoted_tokens
from energylens.queries.graphs import traced_nodes
from energylens.queries.heads import head_skip_trigrams, head_tokens
from energylens.queries.shading import ShadedToken, digit, glyphs, shaded_tokens
from energylens.tui.colours import shade
from energylens.tui.feature_facts import facts, histogram_of, logit_histogram, logit_table
from energylens.tui.state import FeaturePlace
from energylens.tui.widgets.histogram import fitted
from energylens.tui.widgets.token_text import MOST_ENERGY

N_CONTEXTS = 6
N_PARTS = 3
"""Contexts of a feature, and parts of a text, that are drawn; the panel scrolls."""
_AROUND = 14
"""Tokens on either side of a peak."""
_N_TRIGRAMS = 12
_LINES = 4


def feature_preview(session: Session, width: int, place: FeaturePlace) -> RenderableType:
    """A feature: its facts, histogram and tokens, and where it is strongest."""
    run, sae, wanted = place.selection.run, place.selection.sae.sae_id, place.feature_id
    record = feature(session, run, sae, wanted)
    drawn = [
        (row, shaded_tokens(context_tokens(session, run, row["context_id"], sae, wanted)))
        for row in feature_contexts(session, run, sae, wanted, N_CONTEXTS).iter_rows(named=True)
    ]
    strongest = max((abs(row["activation"]) for row, _ in drawn), default=0.0)
    text = Text()
    for row, tokens in drawn:
        peak = next((n for n, t in enumerate(tokens) if t.token_index == row["token_index"]), 0)
        about = f"{number(row['activation'])}  {row['category'] or ''}  text {row['text_id']}"
        text.append(f"\n{visible(about)}\n", "dim")
        text.append_text(_around(tokens, peak, strongest))
        text.append("\n")
    histogram = Text(fitted(*histogram_of(record), _LINES, width))
    promoted = logit_table(promoted_tokens(session, run, sae, wanted))
    logits = logit_histogram(logit_distribution(session, run, sae, wanted))
    return Group(facts(record), histogram, promoted, text, logits)


def text_preview(session: Session, run: str, text_id: int, at: int | None) -> RenderableType:
    """A text shaded by the energies of its tokens; from the part that holds a token where one is
    meant, with that token marked."""
    parts = text_contexts(session, run, text_id)["context_id"].to_list()
    shown = Text(f"text {text_id}, shaded by energy, brightest at {MOST_ENERGY:.0f} nats\n", "bold")
    frames = ((part, context_tokens(session, run, part)) for part in parts)
    if at is not None:
        frames = ((n, f) for n, f in frames if at in f["token_index"].to_list())
    for number_, (part, frame) in enumerate(frames):
        if number_ == N_PARTS:
            break
        shown.append(f"\npart {parts.index(part) + 1} of {len(parts)}\n", "dim")
        shown.append_text(_by_energy(shaded_tokens(frame), at))
        shown.append("\n")
    return shown


def pair_preview(
    session: Session, run: str, context_id: int, token_index: int, source_index: int
) -> RenderableType:
    """A context in which a head looks from one token, reversed, at another one, underlined."""
    shown = Text(
        f"context {context_id}: the token reversed looks at the one underlined\n\n", "bold"
    )
    for glyph in glyphs(tokens := shaded_tokens(context_tokens(session, run, context_id))):
        inside = {token.token_index for token in tokens[glyph.first : glyph.end]}
        looks, is_seen = token_index in inside, source_index in inside
        style = Style(dim=not looks and not is_seen, bold=is_seen, underline=is_seen, reverse=looks)
        shown.append(visible(glyph.text), style)
    return shown


def shaded_preview(
    session: Session, run: str, text_id: int, shade_by: tuple[str, int]
) -> RenderableType:
    """A text shaded by a feature of an SAE."""
    sae, wanted = shade_by
    parts = text_contexts(session, run, text_id)["context_id"].to_list()
    drawn = [shaded_tokens(context_tokens(session, run, i, sae, wanted)) for i in parts[:N_PARTS]]
    strongest = max((abs(t.activation or 0.0) for part in drawn for t in part), default=0.0)
    shown = Text(f"text {text_id}, shaded by feature {wanted}\n", "bold")
    for number_, tokens in enumerate(drawn):
        shown.append(f"\npart {number_ + 1} of {len(parts)}\n", "dim")
        shown.append_text(_shaded(tokens, strongest))
        shown.append("\n")
    return shown


def head_preview(session: Session, run: str, layer: int, head: int) -> RenderableType:
    """A head: its first skip-trigrams, and where it looks in the texts."""
    shown = Text(f"layer {layer} head {head}\n", "bold")
    shown.append("\nskip-trigrams, by weights: source ... at -> out\n", "dim")
    for row in head_skip_trigrams(session, run, layer, head, k=_N_TRIGRAMS).iter_rows(named=True):
        pieces = (visible_token(row[name]) for name in ("source", "destination", "out_token"))
        source, at, out = pieces
        shown.append(f"{source} ... {at} -> {out}  {number(row['score'])}\n")
    shown.append("\nwhere it looks in the texts\n", "dim")
    for row in head_tokens(session, run, layer, head, k=_N_TRIGRAMS).iter_rows(named=True):
        token, source = visible_token(row["token"]), visible_token(row["source"])
        shown.append(f"{token} looks {row['distance']} back at {source}")
        shown.append(f"  {number(row['attention'])}\n", "dim")
    return shown


def _around(tokens: list[ShadedToken], peak: int, strongest: float) -> Text:
    """The tokens about a peak, shaded by activation."""
    return _shaded(tokens[max(0, peak - _AROUND) : peak + _AROUND + 1], strongest)


def _shaded(tokens: list[ShadedToken], strongest: float) -> Text:
    """Tokens shaded by their share of the strongest activation."""
    text = Text()
    for glyph in glyphs(tokens):
        active = max(abs(t.activation or 0.0) for t in tokens[glyph.first : glyph.end])
        share = active / strongest if strongest else 0.0
        text.append(visible(glyph.text), shade(share) if share > 0 else None)
    return text


def _by_energy(tokens: list[ShadedToken], at: int | None) -> Text:
    text = Text()
    for glyph in glyphs(tokens):
        inside = tokens[glyph.first : glyph.end]
        share = max(t.energy or 0.0 for t in inside) / MOST_ENERGY
        style = shade(share) if share > 0 else Style(dim=True)
        if any(t.token_index == at for t in inside):
            style += Style(bold=True, underline=True)
        text.append(visible(glyph.text), style)
        if any(t.token_index == at for t in inside):
            text.append(digit(share), style)
    return text


def graph_preview(session: Session, graph_id: str) -> RenderableType:
    """An attribution graph: its logits, and the tokens and features that bring most of them."""
    nodes = traced_nodes(session, graph_id)
    shown = Text(f"{visible(graph_id)}\n", "bold")
    for title, node_type in (
        ("logits", "logit"), ("tokens", "embedding"), ("features", "feature"), ("errors", "error"),
    ):  # fmt: skip
        own = nodes.filter(pl.col("node_type") == node_type)
        shown.append(f"\n{title}, {len(own):,}: {number(own['share'].sum())}\n", "dim")
        for row in own.head(N_CONTEXTS).iter_rows(named=True):
            shown.append(f"  {number(row['share']):>7}  {node_name(row)}\n")
    return shown


def node_name(row: Mapping[str, Any]) -> str:
    """A node of a graph on one line: where it stands, and what it is called."""
    token = "" if row["token"] is None else visible_token(row["token"])
    said = visible(row["label"] or "")
    match row["node_type"]:
        case "embedding":
            return f"token {token}"
        case "logit":
            return said or visible(row["node_id"])
        case "error":
            return f"error L{row['layer']} at {token}"
        case "feature":
            return f"L{row['layer']} {row['feature_id']} at {token}  {said}".rstrip()
    return f"{visible(row['node_id'])} at {token}  {said}".rstrip()
