"""What a map of features is coloured by: a style and a sign for each feature, so that colour is
never the only carrier."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from rich.color import Color
from rich.style import Style

from energylens.queries.display import number
from energylens.queries.shading import Rgb, shade_rgb

Way = Literal["density", "category", "frequency", "EFAS", "labels"]
WAYS: tuple[Way, ...] = ("density", "category", "frequency", "EFAS", "labels")
PAPER: Rgb = (18, 20, 28)
"""What a map is drawn on in every theme: shades are read against it."""
_GREY: Rgb = (112, 116, 128)
_HUES: tuple[Rgb, ...] = (
    *((240, 165, 40), (96, 188, 240), (40, 190, 140), (246, 232, 90)),
    *((120, 150, 255), (240, 110, 70), (226, 140, 200), (225, 228, 235)),
)
"""Apart for people who see fewer colours too: those of Okabe and Ito, lighter."""
_STEPS = 16
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_STRONG = 0.98
"""The share of values that are at or under the one that is drawn strongest."""


@dataclass(frozen=True)
class Colours:
    """How each feature is drawn where it stands for its cell."""

    styles: tuple[Style, ...]
    style_of: np.ndarray
    """Its style, by feature."""
    sign_of: np.ndarray
    """The sign that is written instead of dots where colours cannot be told apart, by feature."""
    order: np.ndarray
    """Features by what they take precedence over: the last one of a cell stands for it."""
    legend: tuple[tuple[str, Style, str], ...]
    """Sign, style and what they mean."""


def ink(colour: Rgb, is_bold: bool = False) -> Style:
    """How something of a colour is drawn on a map."""
    return Style(color=Color.from_rgb(*colour), bgcolor=Color.from_rgb(*PAPER), bold=is_bold)


def faded(style: Style, share: float) -> Style:
    """A style with so much of its colour, the rest that of the paper."""
    red, green, blue = style.color.get_truecolor() if style.color else PAPER
    return ink(_mixed((red, green, blue), share))


def _mixed(hue: Rgb, share: float) -> Rgb:
    red, green, blue = (round(p + (h - p) * share) for h, p in zip(hue, PAPER, strict=True))
    return red, green, blue


RAMP = tuple(ink(shade_rgb(0.3 + 0.7 * step / (_STEPS - 1))[0]) for step in range(_STEPS))
"""From weak to strong."""


def coloured(way: Way, rows: pl.DataFrame) -> Colours:
    """The rows of `mapped_features` in colours; by density every feature is alike, and a cell is
    the lighter the more it holds."""
    n = len(rows)
    latest = np.arange(n)[::-1].copy()  # the most active one last
    if way == "category":
        return _by_category(rows["specialist"].to_list(), latest)
    if way == "frequency":
        density = rows["density"].to_numpy()
        known = density > 0
        return _by_size(np.log10(np.where(known, density, 1.0)), known, latest, "silent", 10.0)
    if way == "EFAS":
        return _by_sign(rows["within"].fill_null(np.nan).to_numpy(), latest)
    if way == "labels":
        has = rows["is_labelled"].to_numpy()
        styles = (ink(_GREY), ink(_HUES[3], is_bold=True))
        order = latest[np.argsort(has[latest], kind="stable")]
        legend = (("L", styles[1], f"label {int(has.sum()):,}"), ("·", styles[0], "none"))
        return Colours(styles, has.astype(np.int16), _signs(np.where(has, "L", "·")), order, legend)
    ones = np.zeros(n, dtype=np.int16)
    legend = (("1", RAMP[0], "few in a cell"), ("9", RAMP[-1], "many"))
    return Colours(RAMP, ones, _signs(np.full(n, "1")), latest, legend)


def by_counts(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps of the ramp and digits of cells by how many features they hold."""
    share = np.log1p(counts) / np.log1p(max(2, int(counts.max(initial=0))))
    return (share * (_STEPS - 1)).astype(np.int16), _signs(_digits(share))


def _by_category(categories: Sequence[str | None], latest: np.ndarray) -> Colours:
    """The commonest categories have a colour each, the others share one."""
    counts = Counter(one for one in categories if one is not None).most_common()
    place = {category: n for n, (category, _) in enumerate(counts)}
    last = len(_HUES)
    styles = (*(ink(hue, is_bold=True) for hue in _HUES), ink((160, 140, 110)), ink(_GREY))
    kind = np.array([place.get(one, -1) if one is not None else -1 for one in categories], int)
    style_of = np.where(kind < 0, last + 1, np.minimum(kind, last)).astype(np.int16)
    letters = [_LETTERS[n] if n < len(_LETTERS) else "+" for n in range(len(counts))]
    signs = np.array([*letters, "·"])[kind]  # -1 is the last
    order = latest[np.argsort(kind[latest] >= 0, kind="stable")]
    legend = [
        (letters[n], styles[min(n, last)], f"{category} {count:,}")
        for n, (category, count) in enumerate(counts)
    ]
    none = ("·", styles[-1], f"no specialist {int((kind < 0).sum()):,}")
    return Colours(styles, style_of, _signs(signs), order, (*legend, none))


def _by_size(
    values: np.ndarray, known: np.ndarray, latest: np.ndarray, without: str, base: float
) -> Colours:
    """Values from low to high; `base` to their power is what is told of the ends."""
    low, high = (values[known].min(), values[known].max()) if known.any() else (0.0, 0.0)
    share = np.clip((values - low) / ((high - low) or 1.0), 0.0, 1.0)
    styles = (*RAMP, ink(_GREY))
    style_of = np.where(known, (share * (_STEPS - 1)).astype(np.int16), _STEPS)
    signs = np.where(known, _digits(share), "·")
    order = latest[np.argsort(np.where(known, share, -1.0)[latest], kind="stable")]
    legend = (
        ("1", RAMP[0], f"on {number(base**low)} of the tokens"),
        ("9", RAMP[-1], f"on {number(base**high)}"),
        ("·", styles[-1], without),
    )
    return Colours(styles, style_of, _signs(signs), order, legend)


def _by_sign(values: np.ndarray, latest: np.ndarray) -> Colours:
    """Positive ones in one hue, negative ones in another, weak ones darker and with a sign of
    their own."""
    known = np.isfinite(values)
    size = np.abs(np.where(known, values, 0.0))
    top = float(np.quantile(size[known], _STRONG)) if known.any() else 0.0
    share = np.clip(size / (top or 1.0), 0.0, 1.0)
    half = _STEPS // 2
    over, under = (
        [ink(_mixed(hue, 0.35 + 0.65 * step / (half - 1))) for step in range(half)]
        for hue in (_HUES[1], _HUES[0])
    )
    styles = (*over, *under, ink(_GREY))
    step = (share * (half - 1)).astype(np.int16)
    style_of = np.where(known, np.where(values < 0, step, half + step), _STEPS)
    signs = np.where(known & (share >= 0.5), np.where(values < 0, "-", "+"), "·")
    order = latest[np.argsort(np.where(known, size, -1.0)[latest], kind="stable")]
    legend = (
        ("-", over[-1], f"over-used, to {number(-top)}"),
        ("+", under[-1], f"under-used, to {number(top)}"),
        ("·", styles[-1], "weak or not tested"),
    )
    return Colours(styles, style_of, _signs(signs), order, legend)


def _digits(share: np.ndarray) -> np.ndarray:
    return np.array(list("123456789"))[np.clip((share * 9).astype(int), 0, 8)]


def _signs(signs: np.ndarray) -> np.ndarray:
    """Characters as their numbers."""
    return signs.astype("<U1").view(np.uint32)
