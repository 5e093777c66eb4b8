"""Figures of the energy: how it falls through the layers, over all texts and along one."""

from collections.abc import Iterator

import numpy as np
import polars as pl
from scipy.stats import t as student

from energylens.queries.display import visible_token
from energylens.report.asked import Asked, ask_query, ask_sql
from energylens.report.figure import COLOURS, Draw, Figure, Missing
from energylens.report.figures.run import Source, short

_BY_LAYER = """
WITH by_text AS (
    SELECT e.layer, x.text_id, any_value(x.category) AS category, sum(e.energy) AS total,
        count(e.energy) AS n
    FROM energies AS e
    JOIN tokens AS t ON t.run_id = $run AND t.token_index = e.token_index
    JOIN contexts AS c ON c.run_id = $run AND c.context_id = t.context_id
    JOIN texts AS x ON x.run_id = $run AND x.text_id = c.text_id
    WHERE e.run_id = $run AND e.energy IS NOT NULL AND NOT t.is_masked
    GROUP BY e.layer, x.text_id
),
means AS (
    SELECT layer, category, grouping(category) = 1 AS is_all, sum(total) / sum(n) AS mean_energy
    FROM by_text
    GROUP BY GROUPING SETS ((layer, category), (layer))
)
SELECT m.layer, m.category, m.is_all, m.mean_energy, count(*) AS n_texts,
    sqrt(sum((b.total - m.mean_energy * b.n) ** 2) * count(*) / nullif(count(*) - 1, 0))
        / sum(b.n) AS error
FROM means AS m
JOIN by_text AS b ON b.layer = m.layer
    AND (m.is_all OR b.category IS NOT DISTINCT FROM m.category)
GROUP BY m.layer, m.category, m.is_all, m.mean_energy
ORDER BY m.is_all DESC, m.category, m.layer
"""
"""Means over tokens with their standard error, the text being the unit (a ratio of sums)."""
_TYPICAL = """
SELECT text_id, n_tokens, mean_energy
FROM text_behaviour($run, k := 1000000)
WHERE n_tokens BETWEEN 16 AND 64
ORDER BY abs(mean_energy - (SELECT median(mean_energy) FROM text_behaviour($run, k := 1000000))),
    text_id
LIMIT 1
"""
_MOST_CATEGORIES = 8
_LANDSCAPE = "Energy landscape of one text"
_WHY = "It is the text of 16 to 64 tokens whose mean energy is nearest to the median text's. "
_SHOWN = 0.95
"""Share of a landscape's energies that are told apart; higher ones have one colour."""


def energy_figures(source: Source) -> Iterator[Figure | Missing]:
    """Energy by layer, and the landscape of one text."""
    yield by_layer(source)
    yield typical_landscape(source)


def by_layer(source: Source) -> Figure | Missing:
    """Energy after each layer, over all texts and by category."""
    title = "Energy by layer"
    asked = ask_sql(source.reader, _BY_LAYER, run=source.run)
    if asked.rows["layer"].n_unique() < 2:
        return Missing(
            "energy_by_layer", title, "the run has energies of one layer or none (--lens-layers)"
        )
    return Figure(
        name="energy_by_layer",
        title=title,
        caption="Mean surprisal of the next token under the logit lens after each layer, nats; "
        "-1 is the embedding. Bands are 95 % intervals, texts being the unit. Masked tokens are "
        "left out.",
        n_texts=source.n_texts,
        asked=(asked,),
        inches=(8, 3.6),
        draw=_draw_layers(asked.rows),
    )


def _draw_layers(rows: pl.DataFrame) -> Draw:
    def draw(drawing):
        whole, parts = drawing.subplots(1, 2, sharey=True)
        _line(whole, rows.filter("is_all"), "all texts", COLOURS[0])
        own = rows.filter(~pl.col("is_all") & pl.col("category").is_not_null())
        names = own["category"].unique(maintain_order=True).to_list()
        for name, colour in zip(names[:_MOST_CATEGORIES], COLOURS, strict=False):
            _line(parts, own.filter(pl.col("category") == name), short(name), colour)
        whole.set(xlabel="layer", ylabel="energy, nats", title="all texts")
        parts.set(xlabel="layer", title="by category")
        if names:
            parts.legend(fontsize=7)

    return draw


def _line(axes, rows: pl.DataFrame, name: str, colour: str) -> None:
    layer, mean = rows["layer"].to_numpy(), rows["mean_energy"].to_numpy()
    axes.plot(layer, mean, color=colour, label=name, marker="o", markersize=3)
    error = rows["error"].fill_null(np.nan).to_numpy()
    reach = error * student.ppf(0.975, np.maximum(rows["n_texts"].to_numpy() - 1, 1))
    axes.fill_between(layer, mean - reach, mean + reach, color=colour, alpha=0.2, linewidth=0)


def typical_landscape(source: Source) -> Figure | Missing:
    """The landscape of a text that is neither easy nor hard."""
    typical = ask_sql(source.reader, _TYPICAL, run=source.run)
    if typical.rows.is_empty():
        return Missing("energy_landscape", _LANDSCAPE, "no text of the run has 16 to 64 tokens")
    return landscape(source, int(typical.rows["text_id"][0]), (typical,), _WHY)


def landscape(
    source: Source, text: int, chosen_by: tuple[Asked, ...] = (), why: str = ""
) -> Figure | Missing:
    """Energy at every token and layer of one text, and why it is this one."""
    asked = ask_query(source.reader, "energy_trajectory", run=source.run, in_text=text)
    if asked.rows["energy"].null_count() == len(asked.rows):
        return Missing("energy_landscape", _LANDSCAPE, "the run has no energies")
    n_tokens = asked.rows["token_index"].n_unique()
    return Figure(
        name="energy_landscape",
        title=_LANDSCAPE,
        caption=f"Surprisal of the next token at every token of text {text} and every layer, nats. "
        f"{why}The highest twentieth has one colour.",
        n_texts=1,
        asked=(*chosen_by, asked),
        inches=(max(5.0, 1.6 + 0.17 * n_tokens), 3.4),
        draw=_draw_landscape(asked),
    )


def _draw_landscape(asked: Asked) -> Draw:
    rows = asked.rows.sort("token_index", "layer")
    wide = rows.pivot(on="layer", index=["token_index", "token"], values="energy")
    layers = [name for name in wide.columns if name not in ("token_index", "token")]
    values = wide.select(layers).cast(pl.Float64).to_numpy().T

    def draw(drawing):
        axes = drawing.subplots()
        shown = np.ma.masked_invalid(values)
        most = float(np.nanquantile(values, _SHOWN))
        image = axes.imshow(shown, aspect="auto", origin="lower", cmap="cividis", vmax=most)
        axes.set_yticks(range(len(layers)), layers)
        tokens = [short(visible_token(token), 12) for token in wide["token"]]
        axes.set_xticks(range(len(tokens)), tokens, rotation=90, fontsize=6)
        axes.set(xlabel="token", ylabel="layer")
        drawing.colorbar(image, ax=axes, label="energy, nats", extend="max")

    return draw
