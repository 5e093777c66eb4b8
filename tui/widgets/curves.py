"""Curves over steps, a line of block characters each."""

import math
from collections.abc import Sequence

from energylens.queries.display import number

_BLOCKS = "▁▂▃▄▅▆▇█"


def curve_line(values: Sequence[float], low: float, high: float, width: int) -> str:
    """Values from left to right, each cell the mean of those that fall on it; `·` where there is no
    number. `low` and `high` are the lowest and the highest block."""
    n = len(values)
    cells = min(width, n)
    line = ""
    for cell in range(cells):
        part = [v for v in values[cell * n // cells : (cell + 1) * n // cells] if math.isfinite(v)]
        if not part:
            line += "·"
            continue
        share = (sum(part) / len(part) - low) / (high - low) if high > low else 0.0
        line += _BLOCKS[max(0, min(len(_BLOCKS) - 1, int(share * len(_BLOCKS))))]
    return line


def ends(values: Sequence[float]) -> str:
    """The first and the last value, in words."""
    return f"{number(values[0])} to {number(values[-1])}" if values else ""
