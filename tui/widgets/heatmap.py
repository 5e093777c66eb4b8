"""A grid of numbers as shades with the number written in each cell; the cursor is a cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.cells import set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from energylens.queries.display import visible
from energylens.tui.colours import shade


@dataclass(frozen=True)
class HeatCell:
    """One cell: what is written in it, and how strong its shade is."""

    text: str
    share: float | None
    """0 to 1; None draws no shade."""


class Heatmap(ScrollView, can_focus=True):
    """Rows and columns of HeatCells with labels; the text says what the shade says."""

    DEFAULT_CSS = """
    Heatmap { height: auto; background: $surface; color: $foreground; scrollbar-size: 0 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1, 0)", "Up", show=False, id="heatmap.up"),
        Binding("down,j", "move(1, 0)", "Down", show=False, id="heatmap.down"),
        Binding("left,h", "move(0, -1)", "Left", show=False, id="heatmap.left"),
        Binding("right,l", "move(0, 1)", "Right", show=False, id="heatmap.right"),
        Binding("enter", "choose", "Open", id="heatmap.open", tooltip="Go into the cell"),
    ]

    @dataclass
    class Moved(Message):
        """The cursor stands on another cell."""

        row: int
        column: int

    @dataclass
    class Chosen(Message):
        """Enter was pressed on a cell."""

        row: int
        column: int

    def __init__(
        self,
        label_width: int = 15,
        cell_width: int = 7,
        id: str | None = None,  # noqa: A002
        opens: bool = True,
    ) -> None:
        """`opens` is whether a cell can be gone into."""
        super().__init__(id=id)
        self._opens = opens
        self._label_width, self._cell_width = label_width, cell_width
        self._rows: Sequence[str] = ()
        self._columns: Sequence[str] = ()
        self._cells: Sequence[Sequence[HeatCell]] = ()
        self.cursor = (0, 0)

    def show(
        self,
        rows: Sequence[str],
        columns: Sequence[str],
        cells: Sequence[Sequence[HeatCell]],
    ) -> None:
        """Show another grid, the cursor where it was if there is such a cell."""
        self._rows, self._columns = list(map(visible, rows)), list(map(visible, columns))
        self._cells = cells
        width = self._label_width + self._cell_width * len(columns)
        self.virtual_size = Size(width, len(rows) + 1)
        self.styles.height = len(rows) + 1
        self.move_to(*self.cursor)

    def move_to(self, row: int, column: int) -> None:
        """Put the cursor on a cell and bring it into view."""
        if not self._rows or not self._columns:
            return
        row = max(0, min(row, len(self._rows) - 1))
        column = max(0, min(column, len(self._columns) - 1))
        self.cursor = (row, column)
        self._bring_into_view()
        self.refresh()
        self.post_message(self.Moved(row, column))

    def _bring_into_view(self) -> None:
        """Scroll to the cursor; headings and labels stay where they are."""
        (row, column), (x, y) = self.cursor, self.scroll_offset
        left, end = column * self._cell_width, (column + 1) * self._cell_width
        room, rows = self._whole_cells, self.size.height - 1
        across = left if left < x else end - room if end > x + room else x
        down = row if row < y else row - rows + 1 if row >= y + rows else y
        if (across, down) != (x, y):
            # a grid that was just shown has no scroll bars yet, which would forbid it
            self.scroll_to(across, down, animate=False, force=True)

    @property
    def _whole_cells(self) -> int:
        """Width of the whole cells there is room for: a number that is cut is another one."""
        room = (self.size.width - self._label_width) // self._cell_width
        return max(1, room) * self._cell_width

    def on_resize(self) -> None:
        self._bring_into_view()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool:
        """Keys of a grid without doors are not offered."""
        return self._opens or action != "choose"

    def render_line(self, y: int) -> Strip:
        label, cells = self._heading() if y == 0 else self._line(y - 1 + self.scroll_offset.y)
        room = self._whole_cells
        left = self.scroll_offset.x // self._cell_width * self._cell_width
        shown = cells.crop_extend(left, left + room, self.rich_style)
        is_more = y == 0 and left + room < self._cell_width * len(self._columns)
        rest = self.size.width - self._label_width - room
        end = Segment(
            "›".rjust(rest) if is_more and rest > 0 else " " * max(0, rest), self.rich_style
        )
        strip = Strip.join([Strip([label]), shown, Strip([end])])
        return strip.crop_extend(0, self.size.width, self.rich_style)

    def _heading(self) -> tuple[Segment, Strip]:
        base = self.rich_style + Style(bold=True)
        names = [Segment(_centred(name, self._cell_width), base) for name in self._columns]
        before = "‹" if self.scroll_offset.x >= self._cell_width else ""
        return Segment(before.rjust(self._label_width), base), Strip(names)

    def _line(self, row: int) -> tuple[Segment, Strip]:
        base = self.rich_style
        if row >= len(self._rows):
            return Segment(" " * self._label_width, base), Strip([])
        here = self.cursor[0] == row
        label = set_cell_size(self._rows[row], self._label_width - 1) + " "
        segments = []
        for column, cell in enumerate(self._cells[row]):
            style = base if cell.share is None else shade(cell.share)
            text = _centred(cell.text, self._cell_width)
            if (row, column) == self.cursor:
                text = "▐" + _centred(cell.text, self._cell_width - 2) + "▌"
                style += Style(bold=True, underline=self.has_focus)
            segments.append(Segment(text, style))
        return Segment(label, base + Style(bold=here)), Strip(segments)

    def action_move(self, rows: int, columns: int) -> None:
        self.move_to(self.cursor[0] + rows, self.cursor[1] + columns)

    def action_choose(self) -> None:
        if self._rows:
            self.post_message(self.Chosen(*self.cursor))

    def on_click(self, event: events.Click) -> None:
        row = event.y + self.scroll_offset.y - 1
        column = (event.x + self.scroll_offset.x - self._label_width) // self._cell_width
        is_inside = event.y and event.x >= self._label_width
        if is_inside and row < len(self._rows) and column < len(self._columns):
            chosen = (row, column) == self.cursor and event.chain > 1
            self.move_to(row, column)
            if chosen:
                self.action_choose()

    def on_focus(self) -> None:
        self.refresh()

    def on_blur(self) -> None:
        self.refresh()


def _centred(text: str, width: int) -> str:
    return set_cell_size(text, width) if len(text) >= width else text.center(width)
