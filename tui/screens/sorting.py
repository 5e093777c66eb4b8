"""Screens with tables of frames in memory: each can be sorted by any of its columns."""

from collections.abc import Sequence
from typing import ClassVar

import polars as pl
from textual import on
from textual.binding import Binding, BindingType

from tui.screens.base import LensScreen
from tui.sources import FrameRows
from tui.widgets.virtual_table import TableColumn, VirtualTable


class SortingScreen(LensScreen):
    """Holds the frame behind each table, in the order it is shown in."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort(True)", "Sort", show=False, id="table.sort", tooltip="By this column"),
        Binding("S", "sort(False)", "Sort up", show=False, id="table.sort_up"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._frames: dict[str, pl.DataFrame] = {}

    def frame(self, table_id: str) -> pl.DataFrame:
        """What a table shows, row by row; empty before it shows anything."""
        return self._frames.get(table_id, pl.DataFrame())

    def show_rows(
        self, table: VirtualTable, rows: pl.DataFrame, columns: Sequence[TableColumn] | None = None
    ) -> None:
        """Show a frame in the order it comes in."""
        table.arrow = None
        self._put(table, rows, tuple(columns) if columns is not None else table.columns)

    def action_sort(self, descending: bool) -> None:
        """Sort the table in focus by the column under its cursor; again turns round."""
        tables = list(self.query(VirtualTable))
        focused = next((table for table in tables if table.has_focus), None)
        table = focused or next((table for table in tables if table.display), None)
        if table is not None:
            self._sort(table, table.column.name, descending)

    @on(VirtualTable.HeadingClicked)
    def _heading(self, event: VirtualTable.HeadingClicked) -> None:
        self._sort(event.table, event.column, descending=True)

    def _sort(self, table: VirtualTable, column: str, descending: bool) -> None:
        rows = self.frame(table.id or "")
        if column not in rows.columns:
            return
        if descending and table.arrow == (column, True):
            descending = False
        try:
            ordered = rows.sort(column, descending=descending, nulls_last=True, maintain_order=True)
        except pl.exceptions.PolarsError:
            self.notify(f"{column} holds lists, which have no order", markup=False)
            return
        table.arrow = (column, descending)
        self._put(table, ordered, table.columns)

    def _put(
        self, table: VirtualTable, rows: pl.DataFrame, columns: tuple[TableColumn, ...]
    ) -> None:
        self._frames[table.id or ""] = rows
        names = [column.name for column in columns]
        table.show(FrameRows(rows.select(names) if rows.width else rows), columns)
