"""A scatter plot in braille: two by four dots a cell."""

from collections.abc import Iterator, Sequence
from itertools import chain, pairwise, starmap

from rich.text import Text

from energylens.queries.display import number

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a braille cell, by row and column."""
_LABEL = 9


def scatter(
    points: Sequence[tuple[float, float]],
    width: int,
    height: int,
    x_name: str,
    y_name: str,
    what: str = "tokens",
    is_joined: bool = False,
) -> Text:
    """Draw points in `width` by `height` cells, with the ends of both axes written out; `what`
    names them.

    A dot says that there is at least one point in its place, not how many. With `is_joined` each
    point is joined to the next one.
    """
    if not points:
        return Text(f"no {what} to draw", "dim")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_range, y_range = (min(xs), max(xs)), (min(ys), max(ys))
    cells = [[0] * width for _ in range(height)]
    places = [
        (_place(x, x_range, 2 * width), 4 * height - 1 - _place(y, y_range, 4 * height))
        for x, y in points
    ]
    between = chain.from_iterable(starmap(_line, pairwise(places))) if is_joined else ()
    for column, row in chain(places, between):
        cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    shown = Text(f"{y_name} against {x_name}, {len(points):,} {what}\n", "bold")
    for row, line in enumerate(cells):
        edge = {0: y_range[1], height - 1: y_range[0]}.get(row)
        shown.append(f"{'' if edge is None else number(edge):>{_LABEL - 1}}│", "dim")
        shown.append("".join(chr(0x2800 + bits) for bits in line) + "\n")
    low, high = number(x_range[0]), number(x_range[1])
    gap = " " * max(1, width - len(low) - len(high))
    shown.append(f"{'':>{_LABEL}}{low}{gap}{high}\n", "dim")
    return shown


def _place(value: float, ends: tuple[float, float], n: int) -> int:
    """The dot of `n` a value falls on; the middle one where all values are alike."""
    low, high = ends
    return n // 2 if high == low else min(int((value - low) / (high - low) * n), n - 1)


def _line(one: tuple[int, int], other: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """The dots between two."""
    n = max(abs(other[0] - one[0]), abs(other[1] - one[1]))
    for step in range(1, n):
        yield (
            round(one[0] + (other[0] - one[0]) * step / n),
            round(one[1] + (other[1] - one[1]) * step / n),
        )
