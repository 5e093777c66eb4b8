"""Tables in the width of a terminal: texts cut shorter, then whole columns left out."""

import polars as pl

from energylens.queries.writing import LONGEST, Format, as_text

_SHORTER = (40, 24, 16, 10)
"""Letters that texts are cut after, tried in turn."""
_SHORT = 16
"""Where columns have to be left out, those that stay have room for so many."""


def fitted(rows: pl.DataFrame, width: int) -> tuple[str, list[str]]:
    """A table as text no wider than `width` cells, and the columns that had no room.

    Columns stay in their order and whole, for the beginning of a number is another number; the
    first one stays however wide it is.
    """
    for most_letters in (LONGEST, *_SHORTER):
        text = as_text(rows, Format.table, most_letters)
        if sum(_widths(text)) < width:
            return text, []
    widths = _widths(as_text(rows, Format.table, _SHORT))
    n = max(1, sum(sum(widths[: i + 1]) < width for i in range(len(widths))))
    return as_text(rows[:, :n], Format.table, _SHORT), rows.columns[n:]


def _widths(text: str) -> list[int]:
    """The cells of each column of a drawn table with the line at its left, read off the line above
    the headings; the line at the right of the last is not counted."""
    return [len(part) + 1 for part in text.partition("\n")[0].strip("┌┐").split("┬")]
