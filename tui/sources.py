"""Rows for a VirtualTable: from a frame in memory, or page by page from the store."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from energylens.db.store import Reader
from energylens.queries.meanings import meanings
from energylens.queries.ranked import FEATURE_COLUMNS, FeatureList
from energylens.tui.tasks import Tasks
from energylens.tui.widgets.virtual_table import PAGE, VirtualTable

_HELD_PAGES = 16
_LABEL = list(FEATURE_COLUMNS).index("label")


class FrameRows:
    """The rows of a frame."""

    def __init__(self, rows: pl.DataFrame) -> None:
        self._rows = rows
        self.n_rows = len(rows)

    def row(self, index: int) -> Sequence[Any]:
        return self._rows.row(index)

    def frame(self, names: Sequence[str]) -> pl.DataFrame:
        """Every row."""
        return self._rows


def string_rows(rows: Sequence[Sequence[str]], names: Sequence[str]) -> FrameRows:
    """Rows of strings as a table's source."""
    return FrameRows(pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row"))


class FeatureRows:
    """The rows of an arranged FeatureList, fetched in pages by a thread when first seen; the tokens
    of features without a label follow."""

    def __init__(self, listed: FeatureList, n_rows: int, tasks: Tasks, table: VirtualTable) -> None:
        self.n_rows = n_rows
        self._listed, self._tasks, self._table = listed, tasks, table
        self._pages: OrderedDict[int, list[tuple]] = OrderedDict()
        self._asked: set[int] = set()

    def row(self, index: int) -> tuple | None:
        number, place = divmod(index, PAGE)
        page = self._pages.get(number)
        if page is None:
            self._fetch(number)
            return None
        self._pages.move_to_end(number)
        return page[place] if place < len(page) else None

    def frame(self, names: Sequence[str]) -> pl.DataFrame:
        """Every row, fetched now; for a thread of its own."""
        rows = self._with_tokens(self._listed.store, self._listed.rows(0, self.n_rows))
        return pl.DataFrame(rows, schema=list(names), orient="row", infer_schema_length=None)

    def take_in(self, number: int, page: list[tuple]) -> None:
        """Take a page in, letting the one go that was not looked at for longest."""
        self._pages[number] = page
        self._asked.discard(number)
        while len(self._pages) > _HELD_PAGES:
            self._pages.popitem(last=False)

    def _fetch(self, number: int) -> None:
        if number in self._asked:
            return
        self._asked.add(number)
        first = number * PAGE

        def told(page: list[tuple]) -> None:
            self.take_in(number, page)
            if self._table.source is self:
                self._table.rows_arrived()

        def arrived(page: list[tuple]) -> None:
            told(page)
            self._tasks.ask(self._table, topic, lambda s: self._with_tokens(s, page), told)

        topic = f"page {number}"
        fetch: Callable[[Any], list[tuple]] = lambda _: self._listed.rows(first, first + PAGE)  # noqa: E731
        self._tasks.ask(self._table, topic, fetch, arrived)

    def _with_tokens(self, reader: Reader, page: list[tuple]) -> list[tuple]:
        """The page with the tokens they are strong on for the features that nothing is said of."""
        bare = [row[0] for row in page if row[_LABEL] is None]
        known = meanings(reader, self._listed.run, self._listed.sae, bare)
        return [
            (*row[:_LABEL], known[row[0]][0], *row[_LABEL + 1 :]) if row[0] in known else row
            for row in page
        ]
