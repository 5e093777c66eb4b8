"""One context as text: every token shaded by a feature's activation, one token under a cursor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import polars as pl
from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget

from energylens.queries.display import visible
from energylens.queries.shading import SNIPPET, ShadedToken, digit, glyphs, shaded_tokens
from energylens.tui.colours import needs_digits, shade
from energylens.tui.widgets.token_pairs import lines_of

Energies = Literal["hidden", "shaded", "under"]
"""Whether tokens are shaded by their energies, or have them written under them."""
MOST_ENERGY = 12.0
"""Nats that are shaded brightest: a probability of 6 in a million."""


class TokenText(Widget, can_focus=True):
    """Draws a context's tokens; left and right move the cursor from token to token."""

    DEFAULT_CSS = """
    TokenText { height: auto; padding: 0 1; border-left: blank; }
    TokenText:focus { border-left: outer $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "token(-1)", "Token left", show=False, id="tokens.left"),
        Binding("right,l", "token(1)", "Token right", show=False, id="tokens.right"),
        Binding("home", "token(-100000)", "First token", show=False, id="tokens.first"),
        Binding("end", "token(100000)", "Last token", show=False, id="tokens.last"),
        Binding("space", "expand", "Whole text", id="tokens.expand", tooltip="Whole context"),
    ]

    @dataclass
    class Moved(Message):
        """The cursor stands on another token."""

        token: ShadedToken

    def __init__(
        self,
        heading: str,
        tokens: Sequence[ShadedToken],
        peak: int,
        strongest: float,
        is_whole: bool = False,
    ) -> None:
        """`peak` is the place of the strongest token, `strongest` the feature's maximum; all
        tokens are drawn at once where `is_whole`."""
        super().__init__()
        self._heading, self.tokens = visible(heading), list(tokens)
        self._glyphs = glyphs(self.tokens)
        self._strongest = strongest
        self._is_whole = is_whole
        self.peak = self.cursor = next(
            (n for n, g in enumerate(self._glyphs) if g.first <= peak < g.end), 0
        )
        self.with_digits = False
        self.energies: Energies = "hidden"

    @property
    def plain(self) -> str:
        """The text the tokens spell."""
        return b"".join(token.data for token in self.tokens).decode("utf-8", "replace")

    @property
    def token(self) -> ShadedToken:
        """The token under the cursor; the most active one where several share a character."""
        glyph = self._glyphs[self.cursor]
        inside = self.tokens[glyph.first : glyph.end]
        return max(inside, key=lambda t: abs(t.activation or 0.0))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        if self.energies == "under":
            return 1 + 2 * len(self._lines(width))
        return super().get_content_height(container, viewport, width)

    def render(self) -> Text:
        if self.energies == "under":
            return self._with_energies()
        first, end = self._window()
        text = Text(no_wrap=False, end="")
        text.append(self._heading + "\n", Style(dim=True))
        if first > 0:
            text.append("… ", Style(dim=True))
        for number in range(first, end):
            self._draw(text, number)
        if end < len(self._glyphs):
            text.append(" …", Style(dim=True))
        return text

    def _with_energies(self) -> Text:
        """Lines of tokens, each with the energies under them."""
        first, _ = self._window()
        text = Text(self._heading + "\n", Style(dim=True), no_wrap=True, end="")
        for start, end in self._lines(self.content_size.width):
            under = Text()
            for number in range(first + start, first + end):
                before = text.cell_len
                self._draw(text, number)
                text.append(" " * (self._cells(number) - (text.cell_len - before)))
                under.append(self._energy(number).ljust(self._cells(number)), Style(dim=True))
            text.append("\n")
            text.append(under)
            text.append("\n")
        text.right_crop(1)
        return text

    def _lines(self, width: int) -> list[tuple[int, int]]:
        """Ranges of the window's glyphs that fit a line with their energies."""
        return lines_of([self._cells(number) for number in range(*self._window())], width)

    def _cells(self, number: int) -> int:
        """Cells a glyph takes with its energy under it; a digit beside it has room."""
        glyph = cell_len(visible(self._glyphs[number].text))
        return max(glyph + 1, len(self._energy(number))) + 1

    def _energy(self, number: int) -> str:
        glyph = self._glyphs[number]
        known = [t.energy for t in self.tokens[glyph.first : glyph.end] if t.energy is not None]
        return f"{max(known):.1f}" if known else "·"

    def _window(self) -> tuple[int, int]:
        if self._is_whole:
            return 0, len(self._glyphs)
        first = min(self.peak, self.cursor) - SNIPPET
        end = max(self.peak, self.cursor) + SNIPPET + 1
        return max(0, first), min(len(self._glyphs), end)

    def _draw(self, text: Text, number: int) -> None:
        glyph = self._glyphs[number]
        inside = self.tokens[glyph.first : glyph.end]
        share = self._share(inside)
        active = share > 0
        style = Style(dim=inside[0].is_special)
        if active:
            style += shade(share)
        if number == self.cursor and self.has_focus:
            style += Style(bold=True, underline=True, reverse=not active)
        style += Style.from_meta({"glyph": number})
        text.append(visible(glyph.text), style)
        if active and (self.with_digits or needs_digits(self.app)):
            text.append(digit(share), style)

    def _share(self, tokens: Sequence[ShadedToken]) -> float:
        """How strongly tokens are shaded, from 0 to 1."""
        if self.energies == "shaded":
            return max((t.energy or 0.0 for t in tokens), default=0.0) / MOST_ENERGY
        active = max((abs(t.activation or 0.0) for t in tokens), default=0.0)
        return active / self._strongest if self._strongest else float(active > 0)

    def action_token(self, by: int) -> None:
        self.cursor = max(0, min(self.cursor + by, len(self._glyphs) - 1))
        self.refresh(layout=True)
        self.post_message(self.Moved(self.token))

    def go_to(self, token_index: int) -> None:
        """Put the cursor on a token."""
        for place, glyph in enumerate(self._glyphs):
            if token_index in [t.token_index for t in self.tokens[glyph.first : glyph.end]]:
                self.action_token(place - self.cursor)

    def on_click(self, event: events.Click) -> None:
        number = event.style.meta.get("glyph")
        if number is not None:
            self.action_token(number - self.cursor)

    def action_expand(self) -> None:
        self._is_whole = not self._is_whole
        self.refresh(layout=True)

    def on_focus(self) -> None:
        self.refresh()
        self.post_message(self.Moved(self.token))

    def on_blur(self) -> None:
        self.refresh()


class Texts(VerticalScroll, can_focus=False, inherit_bindings=False):
    """Texts below each other. It has no keys: up and down go from text to text, not from line to
    line."""


def context_text(row: dict, tokens: pl.DataFrame, strongest: float, heading: str) -> TokenText:
    """A context with its peak under the cursor; `row` has the peak's `token_index`."""
    shaded = shaded_tokens(tokens)
    peak = next((n for n, t in enumerate(shaded) if t.token_index == row["token_index"]), 0)
    return TokenText(heading, shaded, peak, strongest)


def go_along(texts: Sequence[TokenText], by: int) -> None:
    """Focus the text so many places after the one in focus, the first or last one at the ends."""
    if texts:
        at = next((n for n, text in enumerate(texts) if text.has_focus), -1)
        texts[max(0, min(at + by, len(texts) - 1))].focus()
