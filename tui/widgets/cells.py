"""Columns of a table, and how a value is written into the cells of one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rich.cells import cell_len, set_cell_size

from energylens.queries.display import visible

_JOINERS = frozenset("\u200d\ufe0f")
"""What makes one character, and one width, of several."""
_LEAST_CUT = 5
"""Cells at the right edge below which words are not begun."""


@dataclass(frozen=True)
class TableColumn:
    """One column: its heading, its width in cells, and how a value reads."""

    name: str
    title: str
    width: int
    show: Callable[[Any], str] = str
    right: bool = False
    """Set against the right edge, as numbers are."""


def fit(text: str, column: TableColumn) -> str:
    """Exactly the column's width in cells; what is cut off ends in an ellipsis."""
    text = visible(text)
    cells = len(text) if text.isascii() else cell_len(text)
    if cells > column.width:
        return set_cell_size(text, column.width - 1) + "…"
    space = " " * (column.width - cells)
    return space + text if column.right else text + space


def at_edge(text: str, column: TableColumn, room: int) -> str:
    """A cell that goes on behind the right edge: words are cut with an ellipsis, and of a number
    nothing is shown, since its beginning is another number."""
    if column.right or room < _LEAST_CUT:
        return " " * room
    return f" {fit(text, replace(column, width=room - 1))}"


def cut(cell: str, is_cut_left: bool, width: int) -> str:
    """A cell at an edge of the view. Joined emoji have no place where they can be cut: on the left
    an ellipsis stands for all of it, so that the cells after it stay in their columns."""
    if is_cut_left and not _JOINERS.isdisjoint(cell):
        return "…".rjust(cell_len(cell))
    return set_cell_size(cell, width) if cell_len(cell) > width else cell
