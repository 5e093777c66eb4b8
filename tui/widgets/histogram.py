"""Bars for counts, drawn with block characters."""

from collections.abc import Sequence

from rich.text import Text
from textual.widget import Widget

from energylens.queries.display import number

_BLOCKS = " ▁▂▃▄▅▆▇█"


class Histogram(Widget):
    """A histogram of `height` lines over a scale; the title says what is counted."""

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

    def render(self) -> Text:
        if not self._counts:
            return Text("no activation to draw", style="dim")
        tall = bars(self._counts, self._lines)
        width = 2 * len(self._counts)
        low, high = number(self._low), number(self._high)
        scale = low + " " * max(1, width - len(low) - len(high)) + high
        return Text("\n".join([*tall, scale, f"{sum(self._counts):,} activations"]))


def bars(counts: Sequence[int], lines: int) -> list[str]:
    """Lines of a bar chart, top first; each bar is two cells wide, the highest fills all lines.

    A count above zero always shows at least the lowest block.
    """
    top = max(counts, default=0) or 1
    heights = [0 if n == 0 else max(1, round(n / top * lines * 8)) for n in counts]
    return [
        "".join(_BLOCKS[max(0, min(8, h - 8 * level))] * 2 for h in heights)
        for level in range(lines - 1, -1, -1)
    ]
