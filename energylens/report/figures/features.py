"""Figures of the SAEs and their features: quality, frequency, EFAS, clusters."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from energylens.report.asked import Asked, ask_query, ask_sql
from energylens.report.figure import COLOURS, Draw, Figure, Missing
from energylens.report.figures.run import Source, grid, short

_SAES = """
SELECT sae_id, layer, stream, d_sae, l0, fvu, ce_loss_score, n_dead / d_sae AS share_dead,
    n_dense / d_sae AS share_dense
FROM saes
WHERE run_id = $run
ORDER BY layer, sae_id
"""
_DENSITIES = """
SELECT f.sae_id, floor(log10(f.density) * 5) / 5 AS log10_density, count(*) AS n_features
FROM features AS f
WHERE f.run_id = $run AND f.density > 0
GROUP BY ALL
ORDER BY f.sae_id, log10_density
"""
_EFAS = """
SELECT sae_id, feature_id, within, t, q
FROM efas
WHERE run_id = $run AND variant = $variant AND t IS NOT NULL
ORDER BY sae_id, feature_id
"""
_SMALLEST_Q = 1e-12
"""Of what is drawn; smaller ones stand there."""


def feature_figures(source: Source) -> Iterator[Figure | Missing]:
    """All of them; without an SAE each says so."""
    if not source.saes:
        yield Missing("sae_performance", "SAEs", "the run has no SAE")
        return
    yield performance(source)
    yield density(source)
    yield _strongest(source)
    yield _coverage(source)
    yield efas(source)
    yield clusters(source)


def performance(source: Source) -> Figure:
    """How well each SAE stands for its activations."""
    asked = ask_sql(source.reader, _SAES, run=source.run)
    return Figure(
        name="sae_performance",
        title="How well each SAE stands for its activations",
        caption="Measured on this run's own texts by the gate: variance left unexplained (fvu, "
        "about the mean), cross-entropy recovered (1: nothing lost, 0: as bad as ablation), "
        "features active at a token (l0), and the share of features that never fire.",
        n_texts=source.n_texts,
        asked=(asked,),
        inches=(9, 0.9 + 0.32 * len(asked.rows)),
        draw=_draw_bars(
            asked.rows,
            {"fvu": "fvu", "ce_loss_score": "CE recovered", "l0": "l0", "share_dead": "dead"},
        ),
    )


def _draw_bars(rows: pl.DataFrame, columns: dict[str, str]) -> Draw:
    def draw(drawing):
        panels = drawing.subplots(1, len(columns), sharey=True, squeeze=False)[0]
        names = [short(name) for name in rows["sae_id"]]
        for axes, (column, said) in zip(panels, columns.items(), strict=True):
            values = rows[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
            axes.barh(range(len(names)), np.nan_to_num(values), color=COLOURS[0])
            for place, value in enumerate(values):
                shown = "not measured" if np.isnan(value) else f"{value:.3g}"
                axes.text(0.0 if np.isnan(value) else value, place, f" {shown}", va="center",
                          fontsize=7)  # fmt: skip
            axes.set_title(said)
            axes.margins(x=0.25)
        panels[0].set_yticks(range(len(names)), names)
        panels[0].invert_yaxis()

    return draw


def density(source: Source) -> Figure | Missing:
    """How often features are active."""
    asked = ask_sql(source.reader, _DENSITIES, run=source.run)
    title = "How often features are active, by SAE"
    if asked.rows.is_empty():
        return Missing("density_and_l0", title, "the run has no index: energylens index")
    return Figure(
        name="density_and_l0",
        title=title,
        caption="Features by the share of tokens they are active on, base-10 logarithm; beside "
        "the name stands l0. Features that are never active are left out."
        f"{source.said_of_panels()}",
        n_texts=source.n_texts,
        asked=(asked,),
        inches=_size(source),
        draw=_draw_densities(asked.rows, source),
    )


def _size(source: Source) -> tuple[float, float]:
    down, across = grid(len(source.panels))
    return 2.4 * across + 0.6, 1.9 * down + 0.5


def _draw_densities(rows: pl.DataFrame, source: Source) -> Draw:
    l0 = {sae.sae_id: sae.l0 for sae in source.info.saes}

    def draw(drawing):
        panels = _panels(drawing, source)
        for axes, name in zip(panels, source.panels, strict=False):
            own = rows.filter(pl.col("sae_id") == name)
            axes.bar(own["log10_density"] + 0.1, own["n_features"], width=0.19, color=COLOURS[0])
            axes.set_title(f"{short(name, 24)}  l0 {l0[name]:.3g}", fontsize=7)
        drawing.supxlabel("share of tokens, log10", fontsize=8)
        drawing.supylabel("features", fontsize=8)

    return draw


def _panels(drawing, source: Source):
    """One pair of axes for each SAE that has a panel."""
    panels = drawing.subplots(*grid(len(source.panels)), sharex=True, sharey=True, squeeze=False)
    for spare in panels.flat[len(source.panels) :]:
        spare.set_visible(False)
    return panels.flat


def _progression(source: Source) -> Asked:
    return ask_query(source.reader, "layer_progression", run=source.run)


def _strongest(source: Source) -> Figure | Missing:
    asked, title = _progression(source), "Strongest activation of each SAE"
    if asked.rows.is_empty():
        return Missing("strongest_activations", title, "the run has no index: energylens index")
    return Figure(
        name="strongest_activations",
        title=title,
        caption="The largest activation of any feature on a token that is not masked.",
        n_texts=source.n_texts,
        asked=(asked,),
        inches=(6, 0.9 + 0.32 * len(asked.rows)),
        draw=_draw_bars(asked.rows, {"peak_activation": "activation"}),
    )


def _coverage(source: Source) -> Figure | Missing:
    asked, title = _progression(source), "Texts that the most frequent feature is active in"
    if asked.rows.is_empty():
        return Missing("feature_coverage", title, "the run has no index: energylens index")
    return Figure(
        name="feature_coverage",
        title=title,
        caption="Share of the texts in which each SAE's most frequent feature is active, by layer.",
        n_texts=source.n_texts,
        asked=(asked,),
        inches=(6, 3.2),
        draw=_draw_by_layer(asked.rows, "coverage", "share of texts"),
    )


def _draw_by_layer(rows: pl.DataFrame, column: str, said: str) -> Draw:
    def draw(drawing):
        axes = drawing.subplots()
        for name, colour in zip(rows["stream"].unique(maintain_order=True), COLOURS, strict=False):
            own = rows.filter(pl.col("stream") == name).sort("layer")
            axes.plot(own["layer"], own[column], marker="o", color=colour, label=short(name))
        axes.set(xlabel="layer", ylabel=said, ylim=(0, 1.05))
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.legend()

    return draw


def efas(source: Source) -> Figure | Missing:
    """EFAS within texts with its null, and against q."""
    title = "How EFAS is distributed, and how sure it is"
    variant = next((v for v in ("lens", "own", "total") if v in source.info.efas), None)
    if variant is None:
        return Missing("efas_distribution", title, "the run has no EFAS (energylens recompute)")
    asked = ask_sql(source.reader, _EFAS, run=source.run, variant=variant)
    nulls = ask_sql(source.reader, _EFAS, run=source.run, variant="calibration")
    return Figure(
        name="efas_distribution",
        title=title,
        caption=f"EFAS within texts with the {variant} gradient: above, over the tested features "
        "(filled) and with the gradient of the calibration alone (line), a null that no feature "
        "causes; below, against q (Benjamini-Hochberg; tests are clustered by text; the line is "
        "q = .05). EFAS tells how the read-out is calibrated along a feature: untrained models "
        f"have it too, and it does not say that a feature matters.{source.said_of_panels()}",
        n_texts=source.n_texts,
        asked=(asked, nulls) if len(nulls.rows) else (asked,),
        inches=(2.4 * len(source.panels[:4]) + 0.6, 4.2 * -(-len(source.panels) // 4)),
        draw=_draw_efas(asked.rows, nulls.rows, source),
    )


def _draw_efas(rows: pl.DataFrame, nulls: pl.DataFrame, source: Source) -> Draw:
    reach = float(np.nanmax(np.abs(rows["within"].to_numpy()), initial=1e-6))
    bins = np.linspace(-reach, reach, 42)

    def draw(drawing):
        down, across = grid(len(source.panels))
        panels = drawing.subplots(2 * down, across, sharex=True, squeeze=False)
        for place in range(down * across):
            row, column = divmod(place, across)
            above, below = panels[2 * row][column], panels[2 * row + 1][column]
            if place >= len(source.panels):
                above.set_visible(False)
                below.set_visible(False)
                continue
            name = source.panels[place]
            own = rows.filter(pl.col("sae_id") == name)
            null = nulls.filter(pl.col("sae_id") == name)
            above.hist(own["within"], bins=bins, color=COLOURS[0])
            above.hist(null["within"], bins=bins, histtype="step", color=COLOURS[1])
            above.set_title(short(name, 24), fontsize=7)
            q = np.maximum(own["q"].to_numpy(), _SMALLEST_Q)
            below.scatter(own["within"], -np.log10(q), s=3, color=COLOURS[0], rasterized=True)
            below.axhline(-np.log10(0.05), color=COLOURS[1], linewidth=0.8)
            below.set_xlabel("EFAS within texts")
        panels[0][0].set_ylabel("features")
        panels[1][0].set_ylabel("-log10 q")

    return draw


def clusters(source: Source) -> Figure | Missing:
    """Features that are active together."""
    title = "Features that are active together"
    asked = [
        ask_query(source.reader, "coactive_clusters", run=source.run, sae=name, k=20)
        for name in source.panels
    ]
    if all(one.rows.is_empty() for one in asked):
        return Missing("coactivation_clusters", title, "no two features of an SAE reach phi .5")
    return Figure(
        name="coactivation_clusters",
        title=title,
        caption="The twenty largest clusters of each SAE's features, joined where phi over tokens "
        "is .5 or more: features in each, coloured by the share whose strongest category is the "
        f"cluster's commonest.{source.said_of_panels()}",
        n_texts=source.n_texts,
        asked=tuple(asked),
        inches=_size(source),
        draw=_draw_clusters(asked, source),
    )


def _draw_clusters(asked: list[Asked], source: Source) -> Draw:
    def draw(drawing):
        from matplotlib import colormaps

        for axes, name, one in zip(_panels(drawing, source), source.panels, asked, strict=False):
            shares = one.rows["share_of_category"].fill_null(0.0).to_numpy()
            axes.bar(range(len(shares)), one.rows["n_features"], color=colormaps["cividis"](shares))
            axes.set_title(short(name, 24), fontsize=7)
            axes.set_xticks([])
        drawing.supxlabel("clusters, the largest first", fontsize=8)
        drawing.supylabel("features", fontsize=8)

    return draw
