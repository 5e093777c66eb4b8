"""A report of a run: figures, tables and contexts as a page, as Markdown, and as data."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import polars as pl

from energylens.db.provenance import RunInfo
from energylens.db.store import Reader
from energylens.queries.pages.environment import environment
from energylens.queries.writing import Format, as_text, unmarked
from energylens.report.figure import Figure, Missing
from energylens.report.figures.energy import energy_figures
from energylens.report.figures.features import feature_figures
from energylens.report.figures.routing import routing_figures
from energylens.report.figures.run import Source
from energylens.report.figures.specialists import specialist_figures
from energylens.report.pieces import (
    MOST_ROWS,
    Drawn,
    Told,
    cells_of,
    code_block,
    new_report,
    write_data,
    write_figure,
)
from energylens.report.tables import Specialist, Table, about, specialists, tables


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
    source = Source(reader, info, n_texts)
    with new_report(folder) as tree:
        report = _made(source, tree, told)
        for table in report.tables:
            write_data(tree, table.name, (table.asked,))
        (tree / "report.html").write_text(as_html(report), encoding="utf-8")
        (tree / "report.md").write_text(as_markdown(report), encoding="utf-8")
    return report


def _made(source: Source, tree: Path, told: Told) -> Report:
    """The report, whose figures are written as they are drawn."""
    pictures, missing = [], []
    for made in _figures(source):
        told(made.title)
        if isinstance(made, Missing):
            missing.append(made)
        else:
            pictures.append(write_figure(tree, made))
    told("tables and contexts")
    return Report(
        info=source.info,
        about=about(source),
        figures=tuple(pictures),
        missing=tuple(missing),
        tables=tuple(tables(source)),
        specialists=tuple(specialists(source)),
    )


def _figures(source: Source) -> Iterator[Figure | Missing]:
    return chain(
        energy_figures(source),
        specialist_figures(source),
        feature_figures(source),
        routing_figures(source),
    )


def as_html(report: Report) -> str:
    """One page that needs nothing beside it."""
    return (
        environment("energylens.report")
        .get_template("report.html")
        .render(
            report=report,
            about=cells_of(report.about),
            tables=[(table, cells_of(table.asked.rows)) for table in report.tables],
            numbers={
                picture.figure.name: [(one, cells_of(one.rows)) for one in picture.figure.asked]
                for picture in report.figures
            },
        )
    )


def as_markdown(report: Report) -> str:
    """The same in Markdown, with the pictures beside it."""
    parts = [f"# Report of {unmarked(report.info.run_id)}", as_text(report.about, Format.markdown)]
    for picture in report.figures:
        figure = picture.figure
        parts += [
            f"## {unmarked(figure.title)}",
            f"![{unmarked(figure.title)}](figures/{figure.name}.png)",
            f"{unmarked(figure.caption)} Texts: {figure.n_texts:,}.",
            *(code_block(one.sql) for one in figure.asked),
        ]
    for table in report.tables:
        rows = as_text(table.asked.rows.head(MOST_ROWS), Format.markdown)
        parts += [
            f"## {unmarked(table.title)}",
            unmarked(table.caption),
            rows,
            code_block(table.asked.sql),
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
    return f"{heading}\n\n{code_block(one.card.as_text(), 'text')}"
