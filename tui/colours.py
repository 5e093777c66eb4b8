"""Shades for magnitudes: luminance grows with the value, so greyscale keeps the order.

Every shade goes with a digit, so that colour is never the only carrier.
"""

from rich.color import Color
from rich.style import Style
from textual.app import App

_STOPS = (
    (38, 42, 58),
    (44, 74, 112),
    (36, 120, 130),
    (86, 168, 96),
    (190, 196, 60),
    (253, 231, 120),
)
"""From dark blue over green to pale yellow; relative luminance rises at every step."""

_SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹"


def shade(share: float) -> Style:
    """Background for a share from 0 to 1 of the strongest value, with text that stays legible."""
    share = min(max(share, 0.0), 1.0)
    place = share * (len(_STOPS) - 1)
    low = min(int(place), len(_STOPS) - 2)
    mixed = tuple(
        round(a + (b - a) * (place - low))
        for a, b in zip(_STOPS[low], _STOPS[low + 1], strict=True)
    )
    ink = (12, 14, 20) if _luminance(mixed) > 0.22 else (240, 242, 248)
    return Style(color=Color.from_rgb(*ink), bgcolor=Color.from_rgb(*mixed))


def digit(share: float) -> str:
    """A superscript digit for a share from 0 to 1: 1 to 9."""
    return _SUPERSCRIPT[max(1, min(9, round(share * 9)))]


def needs_digits(app: App[object]) -> bool:
    """Whether the terminal has too few colours to tell shades apart."""
    is_poor = app.console.color_system == "standard" and not app.is_headless
    return app.no_color or is_poor


def _luminance(rgb: tuple[int, ...]) -> float:
    red, green, blue = (c / 255 for c in rgb)
    return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
