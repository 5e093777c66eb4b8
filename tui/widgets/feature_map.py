"""A map of features that is gone through by keyboard: braille dots, or signs where colours cannot
be told apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from energylens.tui.widgets.atlas import DEEPEST, Atlas, Cells, Window
from energylens.tui.widgets.map_colours import Colours, by_counts, faded, ink

_BRAILLE, _EMPTY = 0x2800, ord(" ")
_MARK = ord("■")
_BARE, _HERE = ink((112, 116, 128)), ink((255, 255, 255), is_bold=True)
_QUIET = 0.4
"""The share of their colour that is left to features beside marked ones."""


class FeatureMap(Widget, can_focus=True):
    """The cursor stands on a feature; keys go to the nearest one in another cell."""

    DEFAULT_CSS = """
    FeatureMap { height: 1fr; min-height: 3; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(0, -1)", "Up", show=False, id="map.up"),
        Binding("down,j", "move(0, 1)", "Down", show=False, id="map.down"),
        Binding("left,h", "move(-1, 0)", "Left", show=False, id="map.left"),
        Binding("right,l", "move(1, 0)", "Right", show=False, id="map.right"),
        Binding("plus", "zoom(1)", "In", key_display="+", id="map.in", tooltip="Twice as near"),
        Binding("minus", "zoom(-1)", "Out", key_display="-", id="map.out", tooltip="Half as near"),
        Binding("home", "zoom(-99)", "All", show=False, id="map.all", tooltip="The whole map"),
        Binding(
            "right_square_bracket",
            "beside(1)",
            "Here",
            key_display="]",
            id="map.next_here",
            tooltip="Next feature in the same place",
        ),
        Binding("left_square_bracket", "beside(-1)", "Before", show=False, id="map.previous_here"),
        Binding("n", "match(1)", "Match", id="map.match", tooltip="Next one that is marked"),
        Binding("N", "match(-1)", "Match back", show=False, id="map.match_back"),
        Binding("enter", "choose", "Open", id="map.open", tooltip="The feature's page"),
    ]

    @dataclass
    class Moved(Message):
        """The cursor stands on another feature, or something else is seen around it."""

        at: int

    @dataclass
    class Chosen(Message):
        """Enter was pressed on a feature."""

        at: int

    def __init__(self, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.with_signs = False
        self.at = 0
        self.zoom = 0
        self.matches: Sequence[int] = ()
        self._atlas = Atlas(np.empty(0), np.empty(0))
        self._colours: Colours | None = None
        self._by_density = True
        self._is_only = False
        self._is_marked = np.empty(0, dtype=np.bool_)
        self._window: Window | None = None
        self._drawn: tuple[np.ndarray, np.ndarray, tuple[Style, ...]] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is no feature to show."""
        return self._atlas.n == 0

    @property
    def is_only(self) -> bool:
        """Whether only what is marked is drawn."""
        return self._is_only and len(self.matches) > 0

    @property
    def here(self) -> np.ndarray:
        """The features where the cursor is, in the order in which keys go through them."""
        return self._atlas.here(self.at, self._is_shown)

    def show(self, x: np.ndarray, y: np.ndarray, at: int) -> None:
        """Show other features, the whole map, with the cursor on one."""
        self._atlas, self.at, self.zoom = Atlas(x, y), at, 0
        self.matches, self._is_marked = (), np.zeros(len(x), dtype=np.bool_)
        self._window = None
        self._lay_out()

    def colour(self, colours: Colours, by_density: bool) -> None:
        """Draw in other colours."""
        self._colours, self._by_density = colours, by_density
        self._draw_anew()

    def mark(self, matches: Sequence[int]) -> None:
        """Mark other features, in the order in which keys go through them."""
        self.matches = matches
        self._is_marked = np.zeros(self._atlas.n, dtype=np.bool_)
        self._is_marked[np.asarray(matches, dtype=np.int64)] = True
        if self.is_only and not self._is_marked[self.at]:
            self.at = matches[0]
        self._see()

    def turn_only(self) -> None:
        """Draw only what is marked, or all."""
        self._is_only = not self._is_only
        if self.is_only and not self._is_marked[self.at]:
            self.at = self.matches[0]
        self._see()

    def turn_signs(self) -> None:
        """Write signs in place of dots, or dots again."""
        self.with_signs = not self.with_signs
        self._draw_anew()

    def move_to(self, at: int) -> None:
        """Put the cursor on a feature and bring it into view."""
        before, self.at = self.at, at
        window = self._atlas.window(self.size.width, self.size.height, at, self._window)
        if window != self._window:
            self._see()
            return
        self._refresh_line(before)
        self._refresh_line(at)
        self.post_message(self.Moved(at))

    def on_resize(self) -> None:
        self._window = None
        self._lay_out()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()

    @property
    def _is_shown(self) -> np.ndarray:
        return self._is_marked if self.is_only else np.ones(self._atlas.n, dtype=np.bool_)

    def _lay_out(self) -> None:
        if self.size.area and not self.is_empty:
            self._atlas.spread(self.size.width, self.size.height, self.zoom)
            self._see()

    def _see(self) -> None:
        """Look at the window around the cursor, and draw it."""
        if not self.size.area or self.is_empty:
            return
        width, height = self.size
        self._window = self._atlas.window(width, height, self.at, self._window)
        self._draw_anew()
        self.post_message(self.Moved(self.at))

    def _draw_anew(self) -> None:
        self._drawn = None
        self.refresh()

    def _refresh_line(self, at: int) -> None:
        if self._window is not None:
            y = int(self._atlas.row[at]) - self._window.top
            self.refresh(Region(0, y, self.size.width, 1))

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        if self._window is None or self._colours is None or y >= self._window.height:
            return Strip([Segment(" " * width, _BARE)], width)
        if self._drawn is None:
            order = self._colours.order
            if len(self.matches):  # what is marked stands for its cell
                order = np.concatenate(
                    [order[~self._is_marked[order]], order[self._is_marked[order]]]
                )
            cells = self._atlas.cells(self._window, self._is_shown, self._is_marked, order)
            self._drawn = self._signs_and_styles(cells, self._colours)
        signs, styles, known = self._drawn
        strip = Strip(_runs(signs[y], styles[y], known), width)
        row, column = (
            int(self._atlas.row[self.at]) - self._window.top,
            int(self._atlas.column[self.at]) - self._window.left,
        )
        return strip if y != row else self._with_cursor(strip, column)

    def _signs_and_styles(
        self, cells: Cells, colours: Colours
    ) -> tuple[np.ndarray, np.ndarray, tuple[Style, ...]]:
        """What is drawn in each cell and in which style, and the styles."""
        is_full = cells.counts > 0
        signs = cells.dots.astype(np.uint32) + _BRAILLE
        if self._by_density:
            steps, digits = by_counts(cells.counts)
        else:
            steps, digits = colours.style_of[cells.first], colours.sign_of[cells.first]
        if self.with_signs:
            signs = digits
        own, styles = colours.styles, (*colours.styles, _BARE)
        if len(self.matches) and not self.is_only:
            styles = (*own, *(faded(style, _QUIET) for style in own), _BARE)
            steps = np.where(cells.is_marked, steps, steps + len(own))
            signs = np.where(cells.is_marked, _MARK, signs)
        steps = np.where(is_full, steps, len(styles) - 1)
        last = np.where(is_full, np.arange(is_full.shape[1]), 0)  # spaces go with what is left of
        last = np.maximum.accumulate(last, axis=1)  # them: the fewer stretches the faster
        return np.where(is_full, signs, _EMPTY), np.take_along_axis(steps, last, axis=1), styles

    def _with_cursor(self, strip: Strip, column: int) -> Strip:
        """The cursor's cell in reverse, between two bars where there is room."""
        width = self.size.width
        own = strip.crop(column, column + 1).text or " "
        style = _HERE + Style(reverse=True, underline=self.has_focus)
        parts = [strip.crop(0, max(0, column - 1))]
        if column > 0:
            parts.append(Strip([Segment("▐", _HERE)], 1))
        parts.append(Strip([Segment(own, style)], 1))
        if column + 1 < width:
            parts.append(Strip([Segment("▌", _HERE)], 1))
        return Strip.join([*parts, strip.crop(min(width, column + 2), width)])

    def action_move(self, across: int, down: int) -> None:
        if self.is_empty:
            return
        found = self._atlas.towards(self.at, across, down, self._is_shown)
        if found is not None:
            self.move_to(found)

    def action_zoom(self, by: int) -> None:
        """Come nearer to the cursor, or go away from it."""
        zoom = max(0, min(self.zoom + by, DEEPEST))
        if zoom != self.zoom and not self.is_empty:
            self.zoom, self._window = zoom, None
            self._lay_out()

    def action_beside(self, by: int) -> None:
        """Go through the features that lie in the same place."""
        if self.is_empty:
            return
        here = self.here.tolist()
        place = here.index(self.at) if self.at in here else -1
        self.move_to(here[(place + by) % len(here)])

    def action_match(self, by: int) -> None:
        """Go to the next one that is marked, and round again."""
        if not self.matches:
            self.notify("nothing is marked: / marks what words lead to", markup=False)
            return
        listed = list(self.matches)
        if self.at in listed:
            self.move_to(listed[(listed.index(self.at) + by) % len(listed)])
        else:
            self.move_to(listed[0 if by > 0 else -1])

    def action_choose(self) -> None:
        if not self.is_empty:
            self.post_message(self.Chosen(self.at))

    def on_click(self, event: events.Click) -> None:
        """Go to the feature in the cell that was clicked, else to the nearest one."""
        if self._window is None or self.is_empty:
            return
        column, row = event.x + self._window.left, event.y + self._window.top
        at = self._atlas.nearest(column, row, self._is_shown)
        was_here = at == self.at
        self.move_to(at)
        if was_here and event.chain > 1:
            self.action_choose()


def _runs(signs: np.ndarray, styles: np.ndarray, known: Sequence[Style]) -> list[Segment]:
    """One segment for each stretch of a style."""
    text = signs.astype("<u4").tobytes().decode("utf-32-le")
    ends = [*(np.flatnonzero(np.diff(styles)) + 1).tolist(), len(text)]
    firsts = [0, *ends[:-1]]
    own = styles[firsts].tolist()
    return [Segment(text[a:b], known[n]) for a, b, n in zip(firsts, ends, own, strict=True)]
