"""Columns of tables, by what is in them."""

import polars as pl

from energylens.queries.display import number, show_probability, visible, visible_token
from energylens.tui.widgets.virtual_table import TableColumn

MOST_ROWS = 2_000
"""Rows a list of an analysis holds; the status line says when there are more."""
_WIDEST = 40
_WIDTH_OF_NAMES = 20
_NAMES = ("_id", "_index", "layer", "expert", "anchor", "head", "position")
"""Ends of the names of columns whose whole numbers name something: 1006 and not 1,006."""


def numeric(name: str, title: str, width: int, digits: int = 3) -> TableColumn:
    """A column of numbers."""
    return TableColumn(name, title, width, lambda v: number(v, digits), right=True)


def whole(name: str, title: str, width: int) -> TableColumn:
    """A column of whole numbers that are names or counts."""
    return TableColumn(name, title, width, lambda v: "·" if v is None else f"{v}", right=True)


def probability(name: str, title: str, width: int = 8) -> TableColumn:
    """A column of p or q: never 0, and starred where it is small."""
    return TableColumn(name, title, width, show_probability, right=True)


def text(name: str, title: str, width: int) -> TableColumn:
    """A column of words."""
    return TableColumn(name, title, width, lambda v: "·" if v is None else visible(str(v)))


def token(name: str, title: str, width: int) -> TableColumn:
    """A column of tokens, whose spaces and line breaks are seen."""
    return TableColumn(name, title, width, lambda v: "·" if v is None else visible_token(v))


def mark(name: str, title: str, width: int) -> TableColumn:
    """A column of yes, and nothing for no."""
    return TableColumn(name, title, width, lambda v: "yes" if v else "")


def label(name: str = "label", title: str = "label", width: int = 26) -> TableColumn:
    """What a feature stands for: what is said of it, else the tokens it is strong on. It stands
    beside the number, so that it is seen at every width: what gives way is right of it."""
    return TableColumn(name, title, width, lambda v: "" if v is None else visible(str(v)))


def takes(width: int = 26) -> TableColumn:
    """The tokens that an anchor, an expert or a path takes."""
    return TableColumn("tokens", "takes", width, lambda v: " ".join(map(visible_token, v or ())))


def sides(width: int) -> tuple[TableColumn, ...]:
    """A column for each side, as wide as a screen of `width` cells has room for."""
    each = (width - _WIDTH_OF_NAMES - 8) // 2
    return (
        TableColumn("what", "", _WIDTH_OF_NAMES),
        TableColumn("one", "one", each),
        TableColumn("other", "other", each),
    )


SIDES = ("what", "one", "other")
"""Names of the columns."""


def columns_of(rows: pl.DataFrame) -> list[TableColumn]:
    """Columns for any frame: as wide as its first rows need, up to a limit."""
    sample = rows.head(100)
    found = []
    for name, kind in rows.schema.items():
        is_number = kind.is_numeric()
        is_name = kind.is_integer() and name.endswith(_NAMES)
        show = _show_value if is_name or not is_number else number
        widest = max((len(show(value)) for value in sample[name].to_list()), default=0)
        width = max(len(name) + 1, min(widest, _WIDEST))
        found.append(TableColumn(name, name, width, show, right=is_number))
    return found or [TableColumn("rows", "no columns", 20)]


def _show_value(value: object) -> str:
    if value is None:
        return "·"
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return visible(str(value))
