"""A table of any length that holds only the pages it shows.

Textual's own DataTable measures every cell before it paints, which takes half a minute for a
dictionary of 131,072 features; this one asks its source for the rows on screen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import polars as pl
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from energylens.tui.notices import copy
from energylens.tui.widgets.cells import TableColumn, at_edge, cut, fit

PAGE = 256
"""Rows asked for at once."""


class RowSource(Protocol):
    """Where rows come from."""

    n_rows: int

    def row(self, index: int) -> Sequence[Any] | None:
        """The values of one row; None where it is still on its way."""
        ...

    def frame(self, names: Sequence[str]) -> pl.DataFrame:
        """Every row, under the names of its columns; may take a while."""
        ...


class VirtualTable(ScrollView, can_focus=True):
    """Shows a RowSource; the cursor is a cell, so that a column can be sorted by or copied."""

    DEFAULT_CSS = """
    VirtualTable {
        height: 1fr; scrollbar-size-horizontal: 0; background: $surface; color: $foreground;
    }
    VirtualTable > .virtual-table--cursor { background: $primary; color: $text; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="table.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="table.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="table.page_up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="table.page_down"),
        Binding("home", "jump(0)", "First row", show=False, id="table.first"),
        Binding("end,G", "jump(-1)", "Last row", show=False, id="table.last"),
        Binding("left,h", "column(-1)", "Column left", show=False, id="table.left"),
        Binding("right,l", "column(1)", "Column right", show=False, id="table.right"),
        Binding("enter", "choose", "Open", id="table.open", tooltip="Open the row"),
        Binding("y", "copy(False)", "Copy", show=False, id="table.copy", tooltip="The cell"),
        Binding("Y", "copy(True)", "Copy row", show=False, id="table.copy_row"),
        Binding("F", "frequency", "Values", show=False, id="table.frequency"),
        Binding("space", "peek", "Peek", show=False, id="table.peek", tooltip="The whole cell"),
    ]

    @dataclass
    class OfRow(Message):
        """Something about a row of a table."""

        table: "VirtualTable"
        row: int

        @property
        def control(self) -> "VirtualTable":
            """The table, by which handlers select."""
            return self.table

    class Moved(OfRow):
        """The cursor stands on another row."""

    class Chosen(OfRow):
        """Enter was pressed on a row, or its line clicked twice."""

    @dataclass
    class Peeked(Message):
        """The whole value of a cell is wanted."""

        table: "VirtualTable"
        title: str
        value: Any

    @dataclass
    class FrequencyAsked(Message):
        """How often the values of the column under the cursor occur is wanted."""

        table: "VirtualTable"

    @dataclass
    class HeadingClicked(Message):
        """A column's heading was clicked."""

        table: "VirtualTable"
        column: str

    def __init__(self, columns: Sequence[TableColumn], id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.all_columns: tuple[TableColumn, ...] = ()
        """What a row of the source holds, value by value."""
        self.columns: tuple[TableColumn, ...] = ()
        """What is shown of it."""
        self._places: tuple[int, ...] = ()
        self._first: tuple[str, ...] = ()
        self._hidden: tuple[str, ...] = ()
        self._take(columns)
        self.source: RowSource | None = None
        self.cursor_row = 0
        self.cursor_column = 0
        self._base = Style()
        self._drawn: LRUCache[int, Strip] = LRUCache(PAGE)
        """Lines that have been drawn, by row; the cursor's is drawn anew."""
        self._drawn_for: tuple[Style, int, int] | None = None
        self.arrow: tuple[str, bool] | None = None
        """Column the rows are sorted by, and whether downwards; None shows no arrow."""

    def show(self, source: RowSource, columns: Sequence[TableColumn] | None = None) -> None:
        """Show another source from its first row."""
        if columns is not None:
            self._take(columns)
        self.source = source
        self._measure()
        self.scroll_to(0, 0, animate=False)
        self.move_to(0)
        self.refresh()

    def arrange_columns(self, first: Sequence[str], hidden: Sequence[str] = ()) -> None:
        """Show some columns before the others, and some not at all; names that the table has no
        column of may be of what it shows later."""
        self._first, self._hidden = tuple(first), tuple(hidden)
        self._take(self.all_columns)
        self._measure()
        self.refresh()

    def _take(self, columns: Sequence[TableColumn]) -> None:
        """Take columns in, in the order that is wanted of them."""
        self.all_columns = tuple(columns)
        places = {column.name: place for place, column in enumerate(self.all_columns)}
        first = [places[name] for name in self._first if name in places]
        rest = [place for place in places.values() if place not in first]
        kept = [p for p in (*first, *rest) if self.all_columns[p].name not in self._hidden]
        self._places = tuple(kept or first or rest)
        self.columns = tuple(self.all_columns[place] for place in self._places)

    def _measure(self) -> None:
        self._drawn.clear()
        self.cursor_column = min(self.cursor_column, len(self.columns) - 1)
        # room to scroll until the last column begins at the left edge
        width = self._across + max((column.width for column in self.columns), default=0)
        self.virtual_size = Size(width, self.n_rows + 1)

    @property
    def _across(self) -> int:
        """Cells of all columns."""
        return sum(column.width + 2 for column in self.columns)

    @property
    def _room(self) -> int:
        """Cells that columns may take: the bar beside them takes some of the widget."""
        return self.scrollable_content_region.width

    @property
    def n_rows(self) -> int:
        """Rows of the source."""
        return self.source.n_rows if self.source else 0

    @property
    def column(self) -> TableColumn:
        """The column under the cursor."""
        return self.columns[self.cursor_column]

    def value(self) -> Any:
        """The value under the cursor; None where there is none."""
        row = self.row()
        return None if row is None else row[self.cursor_column]

    def row(self) -> list[Any] | None:
        """The values under the cursor's line, as they are shown; None where there are none."""
        row = self.source.row(self.cursor_row) if self.source and self.n_rows else None
        return None if row is None else [row[place] for place in self._places]

    def move_to(self, row: int) -> None:
        """Put the cursor on a row and bring it into view."""
        old, self.cursor_row = self.cursor_row, max(0, min(row, self.n_rows - 1))
        top, height = self.scroll_offset.y, self._body_height
        if self.cursor_row < top:
            self.scroll_to(y=self.cursor_row, animate=False)
        elif self.cursor_row >= top + height:
            self.scroll_to(y=self.cursor_row - height + 1, animate=False)
        for line in {old, self.cursor_row}:
            self._refresh_row(line)
        self.post_message(self.Moved(self, self.cursor_row))

    def rows_arrived(self) -> None:
        """Paint again: rows that were on their way are here, or more of what they hold."""
        self._drawn.clear()
        self.refresh()
        self.post_message(self.Moved(self, self.cursor_row))

    @property
    def _body_height(self) -> int:
        return max(1, self.size.height - 1)

    def _refresh_row(self, row: int) -> None:
        y = row - self.scroll_offset.y + 1
        if 1 <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """The bar beside a long table is told only of moves by an eighth of a line, the least it
        can show: painting it takes as long as painting the rows."""
        if self.show_vertical_scrollbar:
            least = self.max_scroll_y / (8 * max(1, self.size.height))
            is_whole = least <= 1 or new_value >= self.max_scroll_y
            seen = new_value if is_whole else new_value - new_value % least
            self.vertical_scrollbar.position = seen
        if round(old_value) != round(new_value):
            self.refresh(self.size.region)

    def render_lines(self, crop: Region) -> list[Strip]:
        """The lines as they are, where there is no border to draw around them: what Textual does
        for that takes longer than writing the cells."""
        self._base = self.rich_style
        drawn_for = (self._base, self.scroll_offset.x, self.size.width)
        if drawn_for != self._drawn_for:
            self._drawn.clear()
            self._drawn_for = drawn_for
        if self.styles.gutter:
            return super().render_lines(crop)
        strips = [self.render_line(y) for y in crop.line_range]
        background = self.background_colors[1]
        for line_filter in self.get_line_filters():
            strips = [strip.apply_filter(line_filter, background) for strip in strips]
        return [strip.crop(crop.x, crop.right) for strip in strips]

    def render_line(self, y: int) -> Strip:
        if y == 0:
            return self._with_more(self._cut_out(self._heading()))
        index = self.scroll_offset.y + y - 1
        drawn = self._drawn.get(index) if index != self.cursor_row else None
        return self._line(index) if drawn is None else drawn

    def _cut_out(self, strip: Strip) -> Strip:
        """What is in view of a line."""
        left = self.scroll_offset.x
        return strip.crop_extend(left, left + self.size.width, self._base)

    def _heading(self) -> Strip:
        segments, start, right = [], 0, self.scroll_offset.x + self._room
        for index, column in enumerate(self.columns):
            mark = ""
            if self.arrow and self.arrow[0] == column.name:
                mark = "▼" if self.arrow[1] else "▲"
            style = self._base + Style(
                bold=True, underline=index == self.cursor_column and self.has_focus
            )
            text = fit(mark + column.title if column.right else column.title + mark, column)
            end = start + column.width + 2
            is_cut = end > right + 1
            title = at_edge(column.title, column, right - start) if is_cut else f" {text} "
            segments.append(Segment(title, style))
            if is_cut:
                break
            start = end
        return Strip(segments)

    def _with_more(self, heading: Strip) -> Strip:
        """The heading with a mark at an edge that columns lie beyond."""
        left, width = self.scroll_offset.x, self._room
        before = [Segment("‹", self._base)] if left else []
        behind = [Segment("›", self._base)] if self._across - 1 > left + width else []
        inside = heading.crop(len(before), width - len(behind))
        return Strip([*before, *inside, *behind]).adjust_cell_length(self.size.width, self._base)

    def _line(self, index: int) -> Strip:
        if self.source is None or not 0 <= index < self.n_rows:
            return self._cut_out(Strip([]))
        row = self.source.row(index)
        cells = self._cells(row)
        if index == self.cursor_row:
            style = self._base + self.get_component_rich_style("virtual-table--cursor")
            own = style + Style(bold=True, underline=True) if self.has_focus else style
            looks = [own if n == self.cursor_column else style for n in range(len(cells))]
            segments = [Segment(cell, look) for cell, look in zip(cells, looks, strict=True)]
            return self._cut_out(Strip(segments))
        strip = self._plain(cells)
        if row is not None:
            self._drawn[index] = strip
        return strip

    def _plain(self, cells: Sequence[str]) -> Strip:
        """A line without the cursor: in one piece where it can be, which is drawn sooner."""
        line = "".join(cells)
        if not line.isascii():
            return self._cut_out(Strip([Segment(cell, self._base) for cell in cells]))
        left, width = self.scroll_offset.x, self.size.width
        return Strip([Segment(line[left : left + width].ljust(width), self._base)], width)

    def _cells(self, row: Sequence[Any] | None) -> list[str]:
        """A row up to the right edge of the view; what is left of the view is not written out."""
        left, right = self.scroll_offset.x, self.scroll_offset.x + self._room
        cells, start = [], 0
        for column, place in zip(self.columns, self._places, strict=True):
            if start >= right:
                break
            end = start + column.width + 2
            if end <= left:
                cells.append(" " * (column.width + 2))
            else:
                shown = "…" if row is None else column.show(row[place])
                if end > right + 1:
                    cells.append(at_edge(shown, column, right - start))
                    break
                cell = f" {fit(shown, column)} "
                cells.append(cell if cell.isascii() else cut(cell, start < left, right - start))
            start = end
        return cells

    COMPONENT_CLASSES: ClassVar[set[str]] = {"virtual-table--cursor"}

    def action_move(self, by: int) -> None:
        self.move_to(self.cursor_row + by)

    def action_page(self, by: int) -> None:
        self.move_to(self.cursor_row + by * self._body_height)

    def action_jump(self, row: int) -> None:
        self.move_to(self.n_rows - 1 if row < 0 else row)

    def action_column(self, by: int) -> None:
        self.cursor_column = max(0, min(self.cursor_column + by, len(self.columns) - 1))
        start = sum(column.width + 2 for column in self.columns[: self.cursor_column])
        end = start + self.column.width + 2
        if start < self.scroll_offset.x:
            self.scroll_to(x=start, animate=False)
        elif end - 1 > self.scroll_offset.x + self._room:
            self.scroll_to(x=self._first_start(start, end), animate=False)
        self.refresh()

    def _first_start(self, start: int, end: int) -> int:
        """The beginning of a column from which another one is seen whole."""
        at = 0
        for column in self.columns:
            if end - 1 - at <= self._room:
                break
            at += column.width + 2
        return min(at, start)

    def action_choose(self) -> None:
        if self.n_rows:
            self.post_message(self.Chosen(self, self.cursor_row))

    def action_copy(self, whole_row: bool) -> None:
        row = self.row()
        if row is None:
            return
        chosen = row if whole_row else [row[self.cursor_column]]
        text = "\t".join("" if value is None else str(value) for value in chosen)
        copy(self, text)

    def action_frequency(self) -> None:
        if self.n_rows:
            self.post_message(self.FrequencyAsked(self))

    def action_peek(self) -> None:
        if self.n_rows:
            self.post_message(self.Peeked(self, self.column.title, self.value()))

    def on_click(self, event: events.Click) -> None:
        if event.y == 0:
            x = event.x + self.scroll_offset.x
            for column in self.columns:
                x -= column.width + 2
                if x < 0:
                    self.post_message(self.HeadingClicked(self, column.name))
                    return
            return
        row = self.scroll_offset.y + event.y - 1
        if row < self.n_rows:
            if row == self.cursor_row and event.chain > 1:
                self.action_choose()
            else:
                self.move_to(row)

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()
