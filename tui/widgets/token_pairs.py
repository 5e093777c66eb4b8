"""Tokens in lines, a number under each: what an edit did to every token's energy."""

from collections.abc import Sequence

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.widget import Widget

from energylens.queries.display import number, visible_token

_RISE, _FALL = Style(color="red", bold=True), Style(color="green", bold=True)


def lines_of(sizes: Sequence[int], width: int) -> list[tuple[int, int]]:
    """Ranges of pieces that fit a line together, each piece so many cells wide."""
    lines, first, used = [], 0, 0
    for index, size in enumerate(sizes):
        if used + size > max(width, 20) and index > first:
            lines.append((first, index))
            first, used = index, 0
        used += size
    return [*lines, (first, len(sizes))] if sizes else []


class TokenPairs(Widget):
    """Wraps at the widget's width; rises are red with a plus, falls green with a minus."""

    DEFAULT_CSS = """
    TokenPairs { height: auto; padding: 0 1; }
    """

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._tokens: list[str] = []
        self._values: list[float | None] = []

    def show(self, tokens: Sequence[str], values: Sequence[float | None]) -> None:
        """Show tokens with a value under each; None leaves the place empty."""
        self._tokens, self._values = list(tokens), list(values)
        self.refresh(layout=True)

    def get_content_height(self, container: object, viewport: object, width: int) -> int:
        return max(1, len(self._lines(width)) * 3 - 1)

    def render(self) -> Text:
        text = Text(no_wrap=True)
        for first, end in self._lines(self.content_size.width):
            above, below = Text(), Text()
            for token, value in zip(self._tokens[first:end], self._values[first:end], strict=True):
                label, under = visible_token(token), signed(value)
                width = max(cell_len(label), len(under))
                above.append(label + " " * (width - cell_len(label) + 1))
                below.append(under.ljust(width + 1), _style(value))
            text.append(above)
            text.append("\n")
            text.append(below)
            text.append("\n\n")
        return text

    def _lines(self, width: int) -> list[tuple[int, int]]:
        """Ranges of tokens that fit a line."""
        pairs = zip(self._tokens, self._values, strict=True)
        sizes = [max(cell_len(visible_token(t)), len(signed(v))) + 1 for t, v in pairs]
        return lines_of(sizes, width)


def signed(value: float | None) -> str:
    """A difference with its sign; a dot for none and for what is too small to see."""
    if value is None:
        return "·"
    return "0" if abs(value) < 0.005 else f"{'+' if value > 0 else ''}{number(value, 2)}"


def _style(value: float | None) -> Style:
    if value is None or abs(value) < 0.005:
        return Style(dim=True)
    return _RISE if value > 0 else _FALL
