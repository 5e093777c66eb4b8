"""Bars for counts, drawn with block characters."""

from collections.abc import Sequence

from rich.text import Text
from textual.geometry import Size
from textual.widget import Widget

from energylens.queries.display import number

_BLOCKS = " ▁▂▃▄▅▆▇█"


class Histogram(Widget):
    """A histogram of `lines` lines over a scale, as wide as there is room."""

    DEFAULT_CSS = """
    Histogram { height: auto; padding: 0 1; }
    """

    def __init__(self, lines: int = 4, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lines = lines
        self._counts: Sequence[int] = ()
        self._low = self._high = 0.0

    def show(self, counts: Sequence[int], low: float, high: float) -> None:
        """Draw counts of equal bins from `low` to `high`."""
        self._counts, self._low, self._high = counts, low, high
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return self._lines + 2 if self._counts else 1

    def render(self) -> Text:
        if not self._counts:
            return Text("no activation to draw", style="dim")
        drawn = fitted(self._counts, self._low, self._high, self._lines, self.content_size.width)
        return Text(drawn, no_wrap=True)


def fitted(
    counts: Sequence[int],
    low: float,
    high: float,
    lines: int,
    width: int,
    counted: str = "activations",
) -> str:
    """A histogram that fills a width: bars over a scale, and how many of what are counted."""
    if not counts:
        return "no activation to draw"
    across, said, end = max(1, width), number(low), number(high)
    scale = said + " " * max(1, across - len(said) - len(end)) + end
    drawn = bars(fit_bins(counts, across), lines, across)
    return "\n".join([*drawn, scale, f"{sum(counts):,} {counted}"])


def fit_bins(counts: Sequence[int], width: int) -> list[int]:
    """The counts, in bins of several where bars of one cell are too wide for all."""
    together = max(1, -(-len(counts) // width))
    parts = range(0, len(counts), together)
    return [sum(counts[first : first + together]) for first in parts]


def bars(counts: Sequence[int], lines: int, across: int | None = None) -> list[str]:
    """Lines of a bar chart, top first; the highest bar fills all lines. The bars fill `across`
    cells, some of them wider by one; None is two cells for each.

    A count above zero always shows at least the lowest block.
    """
    top, n = max(counts, default=0) or 1, len(counts)
    across = 2 * n if across is None else across
    heights = [0 if n == 0 else max(1, round(n / top * lines * 8)) for n in counts]
    widths = [(place + 1) * across // n - place * across // n for place in range(n)]
    return [
        "".join(
            _BLOCKS[max(0, min(8, height - 8 * level))] * wide
            for height, wide in zip(heights, widths, strict=True)
        )
        for level in range(lines - 1, -1, -1)
    ]
