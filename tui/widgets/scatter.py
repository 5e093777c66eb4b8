"""A scatter plot in braille: two by four dots a cell."""

from collections.abc import Sequence

from rich.text import Text

from energylens.queries.display import number

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a braille cell, by row and column."""
_LABEL = 9


def scatter(
    points: Sequence[tuple[float, float]], width: int, height: int, x_name: str, y_name: str
) -> Text:
    """Draw points in `width` by `height` cells, with the ends of both axes written out.

    A dot says that there is at least one point in its place, not how many.
    """
    if not points:
        return Text("no token to draw", "dim")
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x_range, y_range = (min(xs), max(xs)), (min(ys), max(ys))
    cells = [[0] * width for _ in range(height)]
    for x, y in points:
        column = _place(x, x_range, 2 * width)
        row = 4 * height - 1 - _place(y, y_range, 4 * height)
        cells[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
    shown = Text(f"{y_name} against {x_name}, {len(points):,} tokens\n", "bold")
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
