"""Screens with tables of frames in memory: each can be filtered, and sorted by any column."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import polars as pl
from textual import on
from textual.binding import Binding, BindingType

from energylens.db.store import Session
from energylens.errors import EnergyLensError
from energylens.queries.frames import FeatureColumns, filtered
from energylens.queries.meanings import led_by
from energylens.tui.address import Told
from energylens.tui.kinds.lacking import LackingScreen
from energylens.tui.sources import FrameRows
from energylens.tui.widgets.filter_bar import FilterBar
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

_HINT = "words, or: q < 0.05 category:math -dense=yes"


@dataclass(frozen=True)
class TableState:
    """A table as it was left: its rows, how they were sorted and filtered, and the cursor."""

    whole: pl.DataFrame
    shown: pl.DataFrame
    columns: tuple[TableColumn, ...]
    arrow: tuple[str, bool] | None
    filter: str
    row: int


class ListingScreen(LackingScreen):
    """Holds the frame behind each table, in the order it is shown in.

    One table at a time is filtered. A frame that comes anew is shown whole, in its own order.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort(True)", "Sort", show=False, id="table.sort", tooltip="By this column"),
        Binding("S", "sort(False)", "Sort up", show=False, id="table.sort_up"),
        Binding("slash", "filter", "Filter", show=False, id="table.filter", tooltip="The list"),
    ]

    HAS_LIST = True

    def __init__(self) -> None:
        super().__init__()
        self._told: Told | None = None
        """What is to be done once the list has rows."""
        self._row_then: int | None = None
        """Where the cursor goes once the filter has left what it leaves."""
        self._whole: dict[str, pl.DataFrame] = {}
        self._frames: dict[str, pl.DataFrame] = {}
        self._filtered: VirtualTable | None = None
        self._filter = ""

    def frame(self, table_id: str) -> pl.DataFrame:
        """What a table shows, row by row; empty before it shows anything."""
        return self._frames.get(table_id, pl.DataFrame())

    def row_of(self, event: VirtualTable.Chosen) -> dict[str, Any] | None:
        """The row that was chosen; None where the rows have changed since and it is gone."""
        rows = self.frame(event.table.id or "")
        return rows.row(event.row, named=True) if event.row < len(rows) else None

    def n_all(self, table_id: str) -> int:
        """How many rows a table has without its filter."""
        return len(self._whole.get(table_id, pl.DataFrame()))

    def show_rows(
        self, table: VirtualTable, rows: pl.DataFrame, columns: Sequence[TableColumn] | None = None
    ) -> None:
        """Show a frame in the order it comes in."""
        table.arrow = None
        is_first = (table.id or "") not in self._whole
        self._whole[table.id or ""] = rows
        if table is self._filtered and not is_first:
            self._close_filter()
        self._put(table, rows, tuple(columns) if columns is not None else table.all_columns)
        if table is self._filtered:  # the filter was typed before the first rows came
            self._apply(self._filter)
        if self._told is not None and len(rows) and table is self._told_table(self._told):
            told, self._told = self._told, None
            self.call_later(self._begin, told)

    def address(self) -> Told:
        table = self._filtered or self._table_in_focus()
        if table is None:
            return super().address()
        focus = self._filtered or self.focused
        panes = [one for one in self.query("VirtualTable, Heatmap") if one.display]
        is_one_of_several = focus in panes and len(panes) > 1
        arrow = table.arrow
        return replace(
            super().address(),
            filter=self._filter.strip() or None,
            sort=f"{'-' if arrow[1] else ''}{arrow[0]}" if arrow else None,
            row=table.cursor_row + 1 if table.cursor_row > 0 else None,
            pane=focus.id if focus is not None and is_one_of_several else None,
        )

    def take(self, told: Told) -> None:
        super().take(told)
        table = self._told_table(told)
        if told.of_list == Told() or table is None:
            return
        self._focus_pane(told)
        if (table.id or "") in self._whole:
            self.call_later(self._begin, told)
        else:
            self._told = told

    def forget_rows(self) -> None:
        """Take what is shown for what is not there any more."""
        self._whole.clear()
        self._frames.clear()

    def _told_table(self, told: Told) -> VirtualTable | None:
        """The list that words are about."""
        tables = [table for table in self.query(VirtualTable) if table.display]
        return next((table for table in tables if table.id == told.pane), next(iter(tables), None))

    async def _begin(self, told: Told) -> None:
        """Sort, filter and move to a row, as words say."""
        table = self._told_table(told)
        if table is None:
            return
        if told.sort is not None:
            self._sort(table, told.sort.removeprefix("-"), told.sort.startswith("-"))
        row = None if told.row is None else max(0, told.row - 1)
        if told.filter is not None:
            self._row_then = row
            table.focus()
            await self.filter_by(told.filter)
        elif row is not None:
            table.move_to(row)
        self._focus_pane(told)

    def _focus_pane(self, told: Told) -> None:
        for pane in self.query("VirtualTable, Heatmap"):
            if pane.id == told.pane:
                pane.focus()

    def features_of(self, table: VirtualTable) -> FeatureColumns | None:
        """Which columns of a table hold features, that the words of a filter may lead to."""
        return None

    def state_of(self, table: VirtualTable) -> TableState:
        """What `restore` brings back."""
        return TableState(
            self._whole[table.id or ""],
            self.frame(table.id or ""),
            table.all_columns,
            table.arrow,
            self._filter if table is self._filtered else "",
            table.cursor_row,
        )

    def restore(self, table: VirtualTable, state: TableState) -> None:
        """Show a table again as it was left."""
        self.show_rows(table, state.whole, state.columns)
        table.arrow = state.arrow
        self._put(table, state.shown, state.columns)
        table.move_to(state.row)
        if state.filter:
            self._filtered, self._filter = table, state.filter
            self.query_one(FilterBar).show(state.filter)
            self._say_left(table)

    def action_sort(self, descending: bool) -> None:
        """Sort the table in focus by the column under its cursor; again turns round."""
        table = self._table_in_focus()
        if table is not None:
            self._sort(table, table.column.name, descending)

    @on(VirtualTable.HeadingClicked)
    def _heading(self, event: VirtualTable.HeadingClicked) -> None:
        self._sort(event.table, event.column, descending=True)

    def _table_in_focus(self) -> VirtualTable | None:
        """The table in focus, else the first one that can be seen."""
        tables = list(self.query(VirtualTable))
        focused = next((table for table in tables if table.has_focus), None)
        return focused or next((table for table in tables if table.display), None)

    def _sort(self, table: VirtualTable, column: str, descending: bool) -> None:
        name = table.id or ""
        rows = self.frame(name)
        if column not in rows.columns:
            return
        if descending and table.arrow == (column, True):
            descending = False

        def ordered(frame: pl.DataFrame) -> pl.DataFrame:
            return frame.sort(column, descending=descending, nulls_last=True, maintain_order=True)

        try:
            self._whole[name], rows = ordered(self._whole[name]), ordered(rows)
        except pl.exceptions.PolarsError:
            self.notify(f"{column} holds lists, which have no order", markup=False)
            return
        table.arrow = (column, descending)
        self._put(table, rows, table.all_columns)

    def _put(
        self, table: VirtualTable, rows: pl.DataFrame, columns: tuple[TableColumn, ...]
    ) -> None:
        self._frames[table.id or ""] = rows
        names = [column.name for column in columns]
        table.show(FrameRows(rows.select(names) if rows.width else rows), columns)

    async def action_filter(self) -> None:
        """Filter the table in focus, letter by letter."""
        table = self._table_in_focus()
        if table is None:
            self.cannot("There is no list here to filter.")
            return
        if self._filtered is not table:
            self._show_all()
            self._filtered = table
        if not self.query(FilterBar):
            await self.mount(FilterBar(_HINT), before="#status")
        self.query_one(FilterBar).open(self._filter)
        self._apply(self._filter)

    async def filter_by(self, text: str) -> None:
        """Show what a filter leaves of the first table."""
        await self.action_filter()
        if self._filtered is not None:
            self.query_one(FilterBar).show(text)
            self._apply(text)
            self._filtered.focus()

    def _apply(self, text: str) -> None:
        table = self._filtered
        if table is None:
            return
        if (table.id or "") not in self._whole:
            self._filter = text
            return
        whole, of = self._whole[table.id or ""], self.features_of(table)
        texts_of = self.here.run if self.here and "text_id" in whole.columns else None
        titles = {column.title: column.name for column in table.all_columns}

        def show(rows: pl.DataFrame) -> None:
            if self._filtered is table and self._whole.get(table.id or "") is whole:
                self._filter = text
                self._put(table, rows, table.all_columns)
                self._say_left(table)
                row, self._row_then = self._row_then, None
                if row is not None:
                    table.move_to(row)

        def refused(error: EnergyLensError) -> None:
            self.query_one(FilterBar).say(str(error))

        def question(session: Session) -> pl.DataFrame:
            led = led_by(session, text, of, texts_of)
            return filtered(session, whole, text, titles, led)

        self.workspace.tasks.ask(self, "filter", question, show, refused)

    def _say_left(self, table: VirtualTable) -> None:
        left, whole = len(self.frame(table.id or "")), self.n_all(table.id or "")
        self.query_one(FilterBar).say(f"{left:,} of {whole:,}")

    @on(FilterBar.Typed)
    def _filter_typed(self, event: FilterBar.Typed) -> None:
        self._apply(event.text)

    @on(FilterBar.Done)
    def _filter_done(self) -> None:
        if self._filtered is not None:
            self._filtered.focus()
        if not self.query_one(FilterBar).text.strip():
            self._close_filter()

    @on(FilterBar.Cleared)
    def _filter_cleared(self) -> None:
        table = self._filtered
        self._show_all()
        if table is not None:
            table.focus()

    def _show_all(self) -> None:
        """Take the filter away."""
        table = self._filtered
        self._close_filter()
        if table is not None:
            whole = self._whole.get(table.id or "")
            if whole is not None:
                self._put(table, whole, table.all_columns)

    def _close_filter(self) -> None:
        self.workspace.tasks.cancel(self, "filter")
        self._filtered, self._filter = None, ""
        for bar in self.query(FilterBar):
            bar.display = False

    def action_back(self) -> None:
        """Clear the filter; then step back."""
        if self._filtered is not None:
            self._filter_cleared()
        else:
            super().action_back()
