"""A report of a run: figures, tables and contexts as a page, as Markdown, and as data."""

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import polars as pl

from energylens.db.provenance import RunInfo
from energylens.db.store import Reader
from energylens.db.whole import discard, fresh_partial, writing
from energylens.errors import UsageError
from energylens.queries.pages.environment import environment
from energylens.queries.writing import Format, as_text, unmarked, write_file
from energylens.report.asked import Asked
from energylens.report.figure import Figure, Missing, drawn
from energylens.report.figures.energy import energy_figures
from energylens.report.figures.features import feature_figures
from energylens.report.figures.routing import routing_figures
from energylens.report.figures.run import Source
from energylens.report.figures.specialists import specialist_figures
from energylens.report.tables import Specialist, Table, about, specialists, tables

Told = Callable[[str], None]
_MOST_ROWS = 40
"""Rows of a figure's numbers that the page shows; all are in the data."""


@dataclass(frozen=True)
class Drawn:
    """A figure as the page shows it."""

    figure: Figure
    svg: str

    @property
    def address(self) -> str:
        """The picture as an address that holds it."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"


@dataclass(frozen=True)
class Report:
    """All that a report shows."""

    info: RunInfo
    about: pl.DataFrame
    figures: tuple[Drawn, ...]
    missing: tuple[Missing, ...]
    tables: tuple[Table, ...]
    specialists: tuple[Specialist, ...]


def write_report(reader: Reader, info: RunInfo, n_texts: int, folder: Path, told: Told) -> Report:
    """Write `report.html`, `report.md`, `figures/` and `data/` into a new folder; `told` hears
    what is being made.

    Raises:
        UsageError: the folder is there.
        StoreError: the disk cannot be written; nothing is left of the folder.
    """
    if folder.exists():
        raise UsageError(f"'{folder}' is there already; name a folder that is not")
    source = Source(reader, info, n_texts)
    with writing(f"'{folder}'", "nothing is left of it"):
        tree = fresh_partial(folder)
        try:
            report = _write_tree(source, tree, told)
            tree.rename(folder)
        finally:
            discard(tree)
    return report


def _write_tree(source: Source, tree: Path, told: Told) -> Report:
    for name in ("figures", "data"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    pictures, missing = [], []
    for made in _figures(source):
        told(made.title)
        if isinstance(made, Missing):
            missing.append(made)
            continue
        svg, png = drawn(made)
        (tree / "figures" / f"{made.name}.svg").write_text(svg, encoding="utf-8")
        (tree / "figures" / f"{made.name}.png").write_bytes(png)
        _write_data(tree / "data", made.name, made.asked)
        pictures.append(Drawn(made, svg))
    told("tables and contexts")
    report = Report(
        info=source.info,
        about=about(source),
        figures=tuple(pictures),
        missing=tuple(missing),
        tables=tuple(tables(source)),
        specialists=tuple(specialists(source)),
    )
    for table in report.tables:
        _write_data(tree / "data", table.name, (table.asked,))
    (tree / "report.html").write_text(as_html(report), encoding="utf-8")
    (tree / "report.md").write_text(as_markdown(report), encoding="utf-8")
    return report


def _figures(source: Source) -> Iterator[Figure | Missing]:
    return chain(
        energy_figures(source),
        specialist_figures(source),
        feature_figures(source),
        routing_figures(source),
    )


def _write_data(folder: Path, name: str, asked: tuple[Asked, ...]) -> None:
    """Rows as Parquet, and as JSON with the SQL that gives them."""
    for number, one in enumerate(asked):
        stem = name if number == 0 else f"{name}_{number + 1}"
        write_file(one.rows, folder / f"{stem}.parquet", Format.parquet)
        rows = as_text(one.rows, Format.json).splitlines()
        lines = ",\n".join(rows)
        text = f'{{"sql": {json.dumps(one.sql)}, "rows": [\n{lines}\n]}}\n'
        (folder / f"{stem}.json").write_text(text, encoding="utf-8")


def as_html(report: Report) -> str:
    """One page that needs nothing beside it."""
    return (
        environment("energylens.report")
        .get_template("report.html")
        .render(
            report=report,
            about=_cells(report.about),
            tables=[(table, _cells(table.asked.rows)) for table in report.tables],
            numbers={
                picture.figure.name: [(one, _cells(one.rows)) for one in picture.figure.asked]
                for picture in report.figures
            },
        )
    )


@dataclass(frozen=True)
class Cells:
    """A table as it is shown."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    n_left_out: int


def _cells(rows: pl.DataFrame) -> Cells:
    shown = rows.head(_MOST_ROWS)
    return Cells(tuple(rows.columns), tuple(shown.iter_rows()), max(0, len(rows) - len(shown)))


def as_markdown(report: Report) -> str:
    """The same in Markdown, with the pictures beside it."""
    parts = [f"# Report of {unmarked(report.info.run_id)}", as_text(report.about, Format.markdown)]
    for picture in report.figures:
        figure = picture.figure
        parts += [
            f"## {unmarked(figure.title)}",
            f"![{unmarked(figure.title)}](figures/{figure.name}.png)",
            f"{unmarked(figure.caption)} Texts: {figure.n_texts:,}.",
            *(_code(one.sql) for one in figure.asked),
        ]
    for table in report.tables:
        rows = as_text(table.asked.rows.head(_MOST_ROWS), Format.markdown)
        parts += [
            f"## {unmarked(table.title)}",
            unmarked(table.caption),
            rows,
            _code(table.asked.sql),
        ]
    if report.specialists:
        parts.append("## The best feature of each category")
        parts += [_specialist(one) for one in report.specialists]
    if report.missing:
        parts.append("## Not in this run")
        parts += [f"* {unmarked(one.title)}: {unmarked(one.reason)}" for one in report.missing]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _specialist(one: Specialist) -> str:
    name = f"feature {one.card.record.feature_id} of {unmarked(one.card.record.sae_id)}"
    heading = f"### {unmarked(one.category)}: {name}\n\nScore {one.score} of {one.n_in}."
    return f"{heading}\n\n{_code(one.card.as_text(), 'text')}"


def _code(text: str, kind: str = "sql") -> str:
    """A block that nothing in the text can end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{kind}\n{text}\n{fence}"
