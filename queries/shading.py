"""Tokens of a context with a shade each, for whatever draws them: a screen, a terminal, a page.

Luminance grows with the value, so that greyscale keeps the order; every shade goes with a digit, so
that colour is never the only carrier.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

SNIPPET = 30
"""Tokens shown on either side of the peak until the whole context is asked for."""
Rgb = tuple[int, int, int]
_STOPS: tuple[Rgb, ...] = (
    (38, 42, 58),
    (44, 74, 112),
    (36, 120, 130),
    (86, 168, 96),
    (190, 196, 60),
    (253, 231, 120),
)
"""From dark blue over green to pale yellow; relative luminance rises at every step."""
_DARK_INK, _LIGHT_INK = (0, 0, 0), (255, 255, 255)
_EQUAL_LUMINANCE = 0.179
"""On such paper black and white have the same contrast, 4.6, where WCAG 2.2 asks for 4.5: with any
other inks there would be less."""
_SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹"


@dataclass(frozen=True)
class ShadedToken:
    """One token of a context."""

    token_index: int
    pos: int
    label: str
    data: bytes
    is_special: bool
    activation: float | None
    """None where the feature is not active."""
    energy: float | None
    """Nats, of the next token; None where there is none."""


def shaded_tokens(tokens: pl.DataFrame) -> list[ShadedToken]:
    """The rows of `context_tokens`."""
    return [
        ShadedToken(
            token_index=t["token_index"],
            pos=t["pos"],
            label=t["token"],
            data=t["token_bytes"],
            is_special=t["is_special"],
            activation=t["activation"],
            energy=t["energy"],
        )
        for t in tokens.iter_rows(named=True)
    ]


@dataclass(frozen=True)
class Glyph:
    """What is drawn for one or more tokens that share a character."""

    text: str
    first: int
    end: int
    """Tokens `first` to `end` of the context."""


def glyphs(tokens: Sequence[ShadedToken]) -> list[Glyph]:
    """Join tokens that are parts of one character, so that it is drawn as it is."""
    found: list[Glyph] = []
    index = 0
    while index < len(tokens):
        end, data = index + 1, tokens[index].data
        while end < len(tokens) and end - index < 4 and not _is_whole(data):
            data += tokens[end].data
            end += 1
        if end > index + 1 and not _is_whole(data):
            end, data = index + 1, tokens[index].data
        label = tokens[index].label if end == index + 1 else data.decode("utf-8")
        found.append(Glyph(label, index, end))
        index = end
    return found


def shade_rgb(share: float) -> tuple[Rgb, Rgb]:
    """Background for a share from 0 to 1 of the strongest value, and ink that is legible on it."""
    share = min(max(share, 0.0), 1.0)
    place = share * (len(_STOPS) - 1)
    low = min(int(place), len(_STOPS) - 2)
    red, green, blue = (
        round(a + (b - a) * (place - low))
        for a, b in zip(_STOPS[low], _STOPS[low + 1], strict=True)
    )
    mixed = (red, green, blue)
    return mixed, _DARK_INK if _luminance(mixed) > _EQUAL_LUMINANCE else _LIGHT_INK


def digit(share: float) -> str:
    """A superscript digit for a share from 0 to 1: 1 to 9."""
    return _SUPERSCRIPT[max(1, min(9, round(share * 9)))]


def _luminance(rgb: Rgb) -> float:
    """Relative luminance as WCAG 2.2 defines it, 0 to 1."""
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (value / 255 for value in rgb)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _is_whole(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
