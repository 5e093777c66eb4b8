"""Figures of routers: how their loads lie, what their choices tell, which paths tokens take."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from energylens.report.asked import ask_query
from energylens.report.figure import COLOURS, Draw, Figure, Missing
from energylens.report.figures.run import Source, short

_N_PATHS = 20
_NONE = "the model has no routers, or the run no index"
_METRICS = {
    "concentration": "concentration",
    "routing_information": "routing information",
    "load_cv": "loads, deviation over mean",
    "max_vio": "busiest load over mean, less 1",
}


def routing_figures(source: Source) -> Iterator[Figure | Missing]:
    """All of them; where the model has no router each says so."""
    yield efficiency(source)
    yield specialization(source)
    yield circuits(source)


def efficiency(source: Source) -> Figure | Missing:
    """How the routers spread their tokens."""
    asked = ask_query(source.reader, "routing_report", run=source.run)
    if asked.rows.is_empty():
        return Missing("routing_efficiency", "Routers", _NONE)
    return Figure(
        name="routing_efficiency",
        title="How the routers spread their tokens",
        caption="Each router with its 95 % interval over texts, and, as a cross, what one that "
        "sends tokens anywhere would have. Concentration alone is high under collapse too; "
        "routing information is 0 under collapse and under blur.",
        n_texts=source.n_texts,
        asked=(asked,),
        inches=(9, 3.0),
        draw=_draw_metrics(asked.rows),
    )


def specialization(source: Source) -> Figure | Missing:
    """What the routers' first choices tell."""
    asked = ask_query(source.reader, "anchor_specialization", run=source.run)
    if asked.rows.is_empty():
        return Missing("anchor_specialization", "What choices tell", _NONE)
    return Figure(
        name="anchor_specialization",
        title="What the routers' first choices tell",
        caption="Bits that the first choice tells of each label beyond what chance would, the "
        "bias of the sample taken off; below zero is nothing. `given token` is what is left once "
        "the token is known: a router that only reads the token has none.",
        n_texts=source.n_texts,
        asked=(asked,),
        inches=(8, 3.6),
        draw=_draw_told(asked.rows),
    )


def _draw_metrics(rows: pl.DataFrame) -> Draw:
    def draw(drawing):
        panels = drawing.subplots(1, len(_METRICS), sharex=True)
        for axes, (metric, said) in zip(panels, _METRICS.items(), strict=True):
            own = rows.filter(pl.col("metric") == metric).sort("layer", "router")
            value = own["value"].cast(pl.Float64).fill_null(np.nan).to_numpy()
            low, high = (own[c].fill_null(np.nan).to_numpy() for c in ("low", "high"))
            reach = np.nan_to_num(np.abs(np.stack([value - low, high - value])))
            places = np.arange(len(own))
            axes.errorbar(places, value, yerr=reach, fmt="o", color=COLOURS[0], capsize=2)
            axes.plot(places, own["baseline"], "x", color=COLOURS[1])
            axes.set_title(said, fontsize=7)
            axes.set_xticks(places, own["layer"])
            axes.set_xlabel("layer")

    return draw


def _draw_told(rows: pl.DataFrame) -> Draw:
    labels = rows["label"].unique(maintain_order=True).to_list()
    routers = rows.sort("layer", "router")["router"].unique(maintain_order=True).to_list()

    def draw(drawing):
        axes = drawing.subplots()
        width = 0.8 / len(routers)
        for place, router in enumerate(routers):
            own = {r["label"]: r["adjusted"] for r in rows.filter(
                pl.col("router") == router).iter_rows(named=True)}  # fmt: skip
            values = [np.nan if own.get(name) is None else own[name] for name in labels]
            at = np.arange(len(labels)) + (place - (len(routers) - 1) / 2) * width
            colour = COLOURS[place % len(COLOURS)]
            axes.bar(at, np.nan_to_num(values), width=width, color=colour, label=short(router))
        said = [name.replace("_", " ") for name in labels]
        axes.set_xticks(range(len(labels)), said, rotation=20, ha="right", fontsize=7)
        axes.axhline(0, color="black", linewidth=0.6)
        axes.set_ylabel("bits")
        axes.legend(fontsize=7)

    return draw


def circuits(source: Source) -> Figure | Missing:
    """Paths of choices that are taken more often than chance has it."""
    title = "Routing circuits"
    asked = ask_query(source.reader, "routing_paths", run=source.run, k=_N_PATHS)
    if asked.rows.is_empty():
        return Missing("routing_circuits", title, _NONE)
    rows = asked.rows.filter(pl.col("t").is_not_null())
    if rows.is_empty():
        return Missing(
            "routing_circuits", title, "no path of choices has tokens enough to be tested"
        )
    return Figure(
        name="routing_circuits",
        title=title,
        caption="Paths of first choices through neighbouring layers that are taken more often than "
        "by layers that know nothing of each other but the token: t clustered by text, the "
        f"{_N_PATHS} largest, with the tokens that take them; dark where q is below .05.",
        n_texts=source.n_texts,
        asked=(asked,),
        inches=(7, 1.0 + 0.24 * len(rows)),
        draw=_draw_circuits(rows),
    )


def _draw_circuits(rows: pl.DataFrame) -> Draw:
    def draw(drawing):
        axes = drawing.subplots()
        names = [
            f"L{row['first_layer']}  " + " → ".join(map(str, row["choices"]))
            for row in rows.iter_rows(named=True)
        ]
        sure = (rows["q"].fill_null(1.0) < 0.05).to_list()
        axes.barh(
            range(len(names)), rows["t"], color=[COLOURS[0] if s else "#b8c4cc" for s in sure]
        )
        for place, n in enumerate(rows["n_tokens"]):
            axes.text(rows["t"][place], place, f" {n:,} tokens", va="center", fontsize=6)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.invert_yaxis()
        axes.set_xlabel("t")
        axes.margins(x=0.15)

    return draw
