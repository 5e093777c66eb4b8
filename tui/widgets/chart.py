"""One or two columns of a table as a chart of characters."""

from collections import Counter
from collections.abc import Callable

import polars as pl
from rich.text import Text

from energylens.queries.display import number, visible
from energylens.tui.widgets.histogram import bars
from energylens.tui.widgets.scatter import scatter

_MOST_LABEL = 24
_MOST_POINTS = 5000
"""Points that are joined; a longer table is thinned evenly."""
_AXIS = 9
"""Cells left of a plot for the ends of its axis."""

Draw = Callable[[pl.Series, pl.Series | None, int, int], Text]


def kinds_of(x: pl.Series, y: pl.Series | None) -> dict[str, Draw]:
    """The charts that one or two columns make, the most fitting first."""
    if y is not None and is_number(x) and is_number(y):
        return {"line": lines, "points": points, "bars": bar_rows}
    if y is not None and is_number(y):
        return {"bars": bar_rows}
    return {"histogram": histogram} if is_number(x) else {"bars": bar_rows}


def is_number(values: pl.Series) -> bool:
    """Whether a column holds a number that can be drawn."""
    return values.dtype.is_numeric() and not _finite(values).is_empty()


def histogram(x: pl.Series, _: pl.Series | None, width: int, height: int) -> Text:
    """How often a number lies in each of equal ranges."""
    values = _finite(x)
    low, high = min(values), max(values)
    n = max(1, min(width // 2, values.n_unique()))
    step = (high - low) / n or 1.0
    counts = [0] * n
    for value in values:
        counts[min(int((value - low) / step), n - 1)] += 1
    ends = number(low), number(high)
    scale = ends[0] + " " * max(1, 2 * n - len(ends[0]) - len(ends[1])) + ends[1]
    told = (
        f"{visible(x.name)}: {len(values):,} values in {n} ranges, at most {max(counts):,} in one"
    )
    return Text("\n".join([*bars(counts, max(1, height - 2)), scale, told]), no_wrap=True)


def bar_rows(x: pl.Series, y: pl.Series | None, width: int, height: int) -> Text:
    """A bar for each row, as long as its number; without a second column, for each value of the
    first, as often as it occurs."""
    if y is None:
        told = (None if value is None else str(value) for value in x.to_list())
        rows: list[tuple[str | None, float]] = list(Counter(told).most_common())
    else:
        rows = list(zip(x.to_list(), y.cast(pl.Float64).fill_nan(None).to_list(), strict=True))
    drawn = rows[: max(1, height - 1)]
    labels = ["·" if label is None else visible(str(label))[:_MOST_LABEL] for label, _ in drawn]
    wide = max(map(len, labels), default=1)
    top = max((abs(n) for _, n in drawn if n is not None and abs(n) != float("inf")), default=0)
    room = max(4, width - wide - 14)
    drawn_rows = [
        f"{label:>{wide}} {_bar(n, top, room)} {number(n)}"
        for label, (_, n) in zip(labels, drawn, strict=True)
    ]
    left = len(rows) - len(drawn)
    return Text("\n".join([*drawn_rows, *([f"and {left:,} more"] if left else [])]), no_wrap=True)


def lines(x: pl.Series, y: pl.Series | None, width: int, height: int) -> Text:
    """Points joined from left to right."""
    return _plot(x, y, width, height, is_joined=True)


def points(x: pl.Series, y: pl.Series | None, width: int, height: int) -> Text:
    """A dot for each row."""
    return _plot(x, y, width, height, is_joined=False)


def _plot(x: pl.Series, y: pl.Series | None, width: int, height: int, is_joined: bool) -> Text:
    assert y is not None, "a plot has two columns"
    pairs = pl.DataFrame({"x": x.cast(pl.Float64), "y": y.cast(pl.Float64)})
    known = pairs.filter(pl.all_horizontal(pl.all().is_finite()))
    if is_joined:
        known = known.sort("x").gather_every(max(1, len(known) // _MOST_POINTS))
    names = visible(x.name), visible(y.name)
    size = max(10, width - _AXIS), max(2, height - 3)
    return scatter(known.rows(), *size, *names, what="rows", is_joined=is_joined)


def _bar(value: float | None, top: float, room: int) -> str:
    if value is None or not top or abs(value) == float("inf"):
        return ""
    return ("█" if value > 0 else "▒") * round(abs(value) / top * room)


def _finite(values: pl.Series) -> pl.Series:
    known = values.cast(pl.Float64).drop_nulls()
    return known.filter(known.is_finite())
