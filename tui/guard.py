"""The last stand before the terminal: nothing that comes from data moves a cursor or sets a title.

Screens write data out with `visible` where they know it for data. This filter sees every cell that
any widget draws, Textual's own included, so that what was forgotten there is shown and not obeyed.
"""

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter
from textual.strip import Strip

from energylens.queries.display import in_one_cell, is_plain


class OnlyText(LineFilter):
    """Each control or invisible character takes one cell; lines stay as wide as they are."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        if all(is_plain(text) and _has_no_link(style) for text, style, _ in segments):
            return segments
        width = Segment.get_line_length(segments)
        guarded = [
            Segment(in_one_cell(text), style.update_link(None) if style else style)
            for text, style, _ in segments
        ]
        return list(Strip(guarded).adjust_cell_length(width))


def _has_no_link(style: Style | None) -> bool:
    return style is None or style.link is None
