"""Two runs, or two checkpoints of a model, held against each other on a page."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from energylens.db.store import Store
from energylens.queries.compare import Comparison, compare_runs
from energylens.queries.display import number, visible
from energylens.queries.pages.environment import environment
from energylens.queries.writing import Format, as_text, unmarked
from energylens.report.asked import Asked, ask_query
from energylens.report.figure import COLOURS, Draw, Figure
from energylens.report.figures.run import short
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
from energylens.report.tables import Table
from energylens.report.thresholds import MEASURES, Threshold

_N_FEATURES = 10
"""Features listed for each pair of SAEs."""


@dataclass(frozen=True)
class Review:
    """What a comparison shows, and whether it is within its bounds."""

    run: str
    other_run: str
    is_paired: bool
    values: dict[str, float | None]
    """By measure; None where the runs share nothing that has it."""
    thresholds: tuple[Threshold, ...]
    broken: tuple[Threshold, ...]
    figures: tuple[Drawn, ...]
    tables: tuple[Table, ...]

    @property
    def verdict(self) -> str:
        """One sentence."""
        if not self.thresholds:
            return "No bounds were given."
        if not self.broken:
            return f"Within all bounds: nowhere {' or '.join(map(str, self.thresholds))}."
        said = (f"{one} ({number(self.values[one.measure], 4)})" for one in self.broken)
        return f"Out of bounds: {', '.join(said)}."


def write_comparison(
    store: Store,
    run: str,
    other_run: str,
    thresholds: Sequence[Threshold],
    folder: Path,
    told: Told,
) -> Review:
    """Write `report.html`, `report.md`, `figures/` and `data/` about two runs into a new folder.

    Raises:
        UnknownNameError: there is no such run.
        UsageError: the folder is there, or a threshold cannot be judged.
        StoreError: the disk cannot be written; nothing is left of the folder.
    """
    told("comparing")
    found = compare_runs(store, run, other_run, _N_FEATURES)
    values = measured(found)
    broken = tuple(one for one in thresholds if one.holds(values))
    with new_report(folder) as tree:
        told("energies")
        texts = ask_query(store, "compare_texts", run=run, other_run=other_run)
        figures = (write_figure(tree, _energies(found, texts)),)
        review = Review(
            run=run,
            other_run=other_run,
            is_paired=found.is_paired,
            values=values,
            thresholds=tuple(thresholds),
            broken=broken,
            figures=figures,
            tables=tuple(_tables(store, run, other_run, found)),
        )
        for table in review.tables:
            write_data(tree, table.name, (table.asked,))
        (tree / "report.html").write_text(as_html(review), encoding="utf-8")
        (tree / "report.md").write_text(as_markdown(review), encoding="utf-8")
    return review


def measured(found: Comparison) -> dict[str, float | None]:
    """Every measure of MEASURES; None where the runs share nothing that has it."""
    whole = found.energies.filter(pl.col("category").is_null())
    parts = found.energies.filter(pl.col("category").is_not_null())
    saes, best = found.saes, found.specialists
    lost = best.filter(pl.col("is_found") & ~pl.col("other_is_found")) if len(best) else best
    values = {
        "energy": _largest(whole, "difference"),
        "energy_low": _largest(whole, "low"),
        "energy_high": _largest(whole, "high"),
        "worst_category": _largest(parts, "difference"),
        "fvu": _largest(saes, pl.col("other_fvu") - pl.col("fvu")),
        "l0": _largest(saes, (pl.col("other_l0") - pl.col("l0")).abs()),
        "live": _largest(saes, pl.col("n_live") - pl.col("other_n_live")),
        "specialists": float(len(lost)) if len(best) else None,
    }
    assert values.keys() == MEASURES.keys(), "every measure has a value"
    return values


def _largest(rows: pl.DataFrame, of: str | pl.Expr) -> float | None:
    if rows.is_empty():
        return None
    named = pl.col(of) if isinstance(of, str) else of
    known = rows.select(named.cast(pl.Float64)).to_series().drop_nulls().drop_nans()
    return None if known.is_empty() else max(known.to_list())


def _energies(found: Comparison, texts: Asked) -> Figure:
    rows = found.energies.filter(pl.col("difference").is_not_null())
    way = "text by text" if found.is_paired else "as two samples of texts"
    return Figure(
        name="energy_change",
        title="Change of energy",
        caption=f"Mean energy of the other run less the first's, nats a {found.unit}, {way}, with "
        "95 % intervals over texts; above zero the other run finds the texts harder. Beside each "
        "stands q (Benjamini-Hochberg over the rows).",
        n_texts=int(found.energies["n_texts"][0]),
        asked=(Asked(texts.sql, texts.rows),),
        inches=(7, 1.2 + 0.32 * max(1, len(rows))),
        draw=_draw_energies(rows),
    )


def _draw_energies(rows: pl.DataFrame) -> Draw:
    def draw(drawing):
        axes = drawing.subplots()
        names = ["all texts" if c is None else short(c) for c in rows["category"]]
        value = rows["difference"].to_numpy()
        low, high = (rows[c].fill_null(np.nan).to_numpy() for c in ("low", "high"))
        reach = np.nan_to_num(np.abs(np.stack([value - low, high - value])))
        places = np.arange(len(names))
        axes.errorbar(value, places, xerr=reach, fmt="o", color=COLOURS[0], capsize=2)
        for place, q in enumerate(rows["q"]):
            said = "" if q is None else f"  q {q:.2g}"
            axes.annotate(said, (value[place] + reach[1][place], place), va="center", fontsize=7)
        axes.axvline(0, color="black", linewidth=0.6)
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.margins(x=0.2, y=0.1)
        axes.set_xlabel("nats")

    return draw


def _tables(store: Store, run: str, other_run: str, found: Comparison) -> list[Table]:
    command = f"energylens compare {visible(str(store.path))} {visible(run)} {visible(other_run)}"
    candidates = (
        Table(
            "energies",
            "Energies",
            f"Nats a {found.unit}; by category, none being all texts.",
            Asked(command, found.energies),
        ),
        Table(
            "saes",
            "SAEs at the same place",
            "The first run's figures, and the other's.",
            ask_query(store, "compare_saes", run=run, other_run=other_run),
        ),
        Table(
            "specialists",
            "Best specialists",
            "Of each category and place in both runs, with a test of their strong texts.",
            Asked(command, found.specialists),
        ),
        Table(
            "features",
            "Features that differ most",
            f"{_N_FEATURES} of each pair of SAEs, the surest change first.",
            Asked(command, found.features),
        ),
    )
    return [table for table in candidates if not table.asked.rows.is_empty()]


def as_html(review: Review) -> str:
    """One page that needs nothing beside it."""
    return (
        environment("energylens.report")
        .get_template("comparison.html")
        .render(
            review=review,
            measures=MEASURES,
            tables=[(table, cells_of(table.asked.rows)) for table in review.tables],
            numbers={
                picture.figure.name: [(one, cells_of(one.rows)) for one in picture.figure.asked]
                for picture in review.figures
            },
        )
    )


def as_markdown(review: Review) -> str:
    """The same in Markdown, the verdict on top: to put beside a change that is reviewed."""
    way = "text by text" if review.is_paired else "as two samples of texts"
    bounds = pl.DataFrame(
        {
            "measure": list(MEASURES),
            "value": [number(review.values[name], 4) for name in MEASURES],
            "what it is": list(MEASURES.values()),
        }
    )
    parts = [
        f"# {unmarked(review.other_run)} against {unmarked(review.run)}",
        f"**{unmarked(review.verdict)}** Compared {way}.",
        as_text(bounds, Format.markdown),
    ]
    for picture in review.figures:
        figure = picture.figure
        parts += [
            f"## {unmarked(figure.title)}",
            f"![{unmarked(figure.title)}](figures/{figure.name}.png)",
            f"{unmarked(figure.caption)} Texts: {figure.n_texts:,}.",
        ]
    for table in review.tables:
        rows = as_text(table.asked.rows.head(MOST_ROWS), Format.markdown)
        parts += [f"## {unmarked(table.title)}", unmarked(table.caption), rows]
        parts.append(code_block(table.asked.sql, "text"))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"
