"""What every report is written with: pictures, tables, data, blocks of code."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from energylens.db.folders import new_folder
from energylens.queries.writing import Format, as_text, write_file
from energylens.report.asked import Asked
from energylens.report.figure import Figure, drawn

Told = Callable[[str], None]
MOST_ROWS = 40
"""Rows of a table that a page shows; all are in the data."""


@contextmanager
def new_report(folder: Path) -> Iterator[Path]:
    """A folder to fill, with `figures` and `data` in it, as `new_folder` makes one."""
    with new_folder(folder) as tree:
        for name in ("figures", "data"):
            (tree / name).mkdir()
        yield tree


@dataclass(frozen=True)
class Drawn:
    """A figure as the page shows it."""

    figure: Figure
    svg: str

    @property
    def address(self) -> str:
        """The picture as an address that holds it."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"


def write_figure(tree: Path, figure: Figure) -> Drawn:
    """Draw a figure and write it with its rows."""
    svg, png = drawn(figure)
    (tree / "figures" / f"{figure.name}.svg").write_text(svg, encoding="utf-8")
    (tree / "figures" / f"{figure.name}.png").write_bytes(png)
    write_data(tree, figure.name, figure.asked)
    return Drawn(figure, svg)


def write_data(tree: Path, name: str, asked: tuple[Asked, ...]) -> None:
    """Rows as Parquet, and as JSON with the SQL that gives them."""
    for number, one in enumerate(asked):
        stem = name if number == 0 else f"{name}_{number + 1}"
        write_file(one.rows, tree / "data" / f"{stem}.parquet", Format.parquet)
        rows = as_text(one.rows, Format.json).splitlines()
        lines = ",\n".join(rows)
        text = f'{{"sql": {json.dumps(one.sql)}, "rows": [\n{lines}\n]}}\n'
        (tree / "data" / f"{stem}.json").write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Cells:
    """A table as it is shown."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    n_left_out: int


def cells_of(rows: pl.DataFrame) -> Cells:
    shown = rows.head(MOST_ROWS)
    return Cells(tuple(rows.columns), tuple(shown.iter_rows()), max(0, len(rows) - len(shown)))


def code_block(text: str, kind: str = "sql") -> str:
    """A block that nothing in the text can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{text}\n{fence}"
