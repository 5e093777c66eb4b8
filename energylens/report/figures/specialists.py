"""Figures of features that stand for one category of texts."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from energylens.report.asked import ask_query
from energylens.report.figure import COLOURS, Draw, Figure, Missing
from energylens.report.figures.run import Source, short

_COUNTED = (
    "A specialist's score is the number of strong texts inside the category less those outside; "
    "it is found where the score is positive and q, by exact permutation over texts, below .05."
)
_NONE = "the run has no categories of texts, no SAE, or no index: energylens index"


def specialist_figures(source: Source) -> Iterator[Figure | Missing]:
    """Scores by category, specialists by depth, streams, and what padding does."""
    found = scores(source)
    yield found
    if isinstance(found, Figure):
        yield by_depth(source)
        yield _streams(source)
        yield _padding(source)


def scores(source: Source) -> Figure | Missing:
    """The best specialists, category by SAE."""
    asked = ask_query(source.reader, "specialist_matrix", run=source.run)
    if asked.rows.is_empty():
        return Missing("specialist_scores", "Specialists", _NONE)
    saes, categories = asked.rows["sae_id"].n_unique(), asked.rows["category"].n_unique()
    return Figure(
        name="specialist_scores",
        title="The best specialist of each category in each SAE",
        caption=f"{_COUNTED} Shown is the score over the texts inside, for categories differ in "
        "size; a star is one that is found.",
        n_texts=source.n_texts,
        asked=(asked,),
        inches=(2.6 + 0.75 * categories, 1.4 + 0.36 * saes),
        draw=_draw_scores(asked.rows),
    )


def by_depth(source: Source) -> Figure | Missing:
    """Categories with a specialist, layer by layer."""
    asked = ask_query(source.reader, "layer_progression", run=source.run)
    if asked.rows.is_empty():
        return Missing("specialists_by_depth", "Specialists by layer", _NONE)
    return Figure(
        name="specialists_by_depth",
        title="Categories that have a specialist, by layer",
        caption=f"{_COUNTED} Left, in how many categories one is found; right, the mean over "
        "categories of the best feature's AUROC (.5 is chance for a feature picked beforehand, "
        "not for the best of many).",
        n_texts=source.n_texts,
        asked=(asked,),
        inches=(8, 3.2),
        draw=_draw_depth(asked.rows),
    )


def _draw_scores(rows: pl.DataFrame) -> Draw:
    saes = rows.sort("layer", "sae_id")["sae_id"].unique(maintain_order=True).to_list()
    categories = sorted(rows["category"].unique().to_list())
    values = np.full((len(saes), len(categories)), np.nan)
    found = np.zeros(values.shape, dtype=bool)
    for row in rows.iter_rows(named=True):
        place = saes.index(row["sae_id"]), categories.index(row["category"])
        values[place], found[place] = row["score"] / row["n_in"], row["is_found"]

    def draw(drawing):
        axes = drawing.subplots()
        image = axes.imshow(values, cmap="PuOr_r", vmin=-1, vmax=1, aspect="auto")
        axes.set_yticks(range(len(saes)), [short(name) for name in saes])
        axes.set_xticks(range(len(categories)), [short(c, 16) for c in categories], rotation=30,
                        ha="right")  # fmt: skip
        for (row, column), value in np.ndenumerate(values):
            if np.isnan(value):
                continue
            ink = "white" if abs(value) > 0.6 else "black"
            star = " *" if found[row, column] else ""
            axes.text(column, row, f"{value:.2f}{star}", ha="center", va="center", color=ink,
                      fontsize=7)  # fmt: skip
        drawing.colorbar(image, ax=axes, label="score over texts inside")

    return draw


def _draw_depth(rows: pl.DataFrame) -> Draw:
    def draw(drawing):
        counts, quality = drawing.subplots(1, 2)
        for name, colour in zip(rows["stream"].unique(maintain_order=True), COLOURS, strict=False):
            own = rows.filter(pl.col("stream") == name).sort("layer")
            counts.plot(own["layer"], own["n_found"], "o-", color=colour, label=short(name))
            quality.plot(own["layer"], own["mean_best_auroc"], "o-", color=colour)
        counts.set(xlabel="layer", ylabel="categories with a specialist",
                   ylim=(0, max(rows["n_categories"].to_list()) + 0.5))  # fmt: skip
        quality.set(xlabel="layer", ylabel="mean AUROC of the best", ylim=(0.5, 1.0))
        for axes in (counts, quality):
            axes.xaxis.get_major_locator().set_params(integer=True)
        counts.legend()

    return draw


def _streams(source: Source) -> Figure | Missing:
    title = "Attention against MLP against residual"
    asked = ask_query(source.reader, "stream_comparison", run=source.run)
    if len(asked.rows) < 2:
        return Missing("stream_comparison", title, "the SAEs of the run read one stream only")
    return Figure(
        name="stream_comparison",
        title=title,
        caption="SAEs by the stream they read: share of categories with a specialist, mean AUROC "
        "of the best feature, and variance left unexplained. The streams' SAEs differ in number, "
        "layer and training, which is part of what is compared.",
        n_texts=source.n_texts,
        asked=(asked,),
        inches=(8, 2.8),
        draw=_draw_streams(asked.rows),
    )


def _draw_streams(rows: pl.DataFrame) -> Draw:
    shown = {
        "share_found": "categories with a specialist",
        "mean_best_auroc": "mean AUROC of the best",
        "mean_fvu": "fvu",
    }

    def draw(drawing):
        names = [f"{short(r['stream'], 12)} ({r['n_saes']})" for r in rows.iter_rows(named=True)]
        for axes, (column, said) in zip(drawing.subplots(1, 3), shown.items(), strict=True):
            values = rows[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
            axes.bar(names, values, color=COLOURS[: len(names)])
            axes.set_title(said)
            axes.tick_params(axis="x", labelsize=7)

    return draw


def _padding(source: Source) -> Figure:
    asked = [
        ask_query(source.reader, "padding_effect", run=source.run, sae=name)
        for name in source.panels
    ]
    return Figure(
        name="padding_effect",
        title="What padding would do to the specialists",
        caption="Features found as specialists, over all categories, with means over the texts' "
        "real tokens, and as they would be with every text padded to the longest and the padding "
        f"counted.{source.said_of_panels()}",
        n_texts=source.n_texts,
        asked=tuple(asked),
        inches=(6.5, 1.2 + 0.4 * len(asked)),
        draw=_draw_padding(asked, source.panels),
    )


def _draw_padding(asked: list, names: list[str]) -> Draw:
    real = [int(one.rows["n_found"].fill_null(0).sum()) for one in asked]
    padded = [int(one.rows["padded_n_found"].fill_null(0).sum()) for one in asked]

    def draw(drawing):
        axes = drawing.subplots()
        places = np.arange(len(names))
        axes.barh(places - 0.2, real, height=0.38, color=COLOURS[0], label="real lengths")
        axes.barh(places + 0.2, padded, height=0.38, color=COLOURS[1], label="padded")
        axes.set_yticks(places, [short(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel("features found")
        axes.legend()

    return draw
