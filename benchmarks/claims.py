"""The pictures of the two claims of docs/findings.md, from the figures kept of them.

    python -m benchmarks.claims

Writes docs/findings/stopping.png and repair.png, and the same as SVG.
"""

import json
from pathlib import Path
from typing import Any

from energylens.report.figure import COLOURS, Draw, Figure, drawn

RESULTS = Path(__file__).parent / "results"
OUT = Path(__file__).parents[1] / "docs/findings"
RULES = {
    "random": "tokens drawn at random",
    "entropy": "least entropy (CALM's rule)",
    "predicted energy": "least predicted energy",
    "predicted drop": "least predicted drop",
    "oracle": "least drop, were it known",
}
PANELS = {"own": "each stopped token alone", "frozen": "and what later tokens then read"}
CONDITIONS = (
    "by attribution",
    "by efas",
    "by frequency",
    "by output-score",
    "by random",
    "reversed",
    "matched",
    "random directions",
    "global gain",
    "temperature",
    "bias",
)
_TOP = 100


def stopping(rows: list[dict[str, Any]]) -> Draw:
    """Nats lost against the share of tokens that stop, a line a rule, a panel a way of counting."""

    def draw(drawing: Any) -> None:
        panels = drawing.subplots(1, len(PANELS), sharey=True)
        for axes, (states, title) in zip(panels, PANELS.items(), strict=True):
            for colour, (rule, said) in zip(COLOURS, RULES.items(), strict=False):
                found = [r for r in rows if (r["states"], r["rule"]) == (states, rule)]
                share = [100 * r["share"] for r in found]
                low, high = ([r["lost"][end] for r in found] for end in ("low", "high"))
                axes.fill_between(share, low, high, color=colour, alpha=0.15, linewidth=0)
                value = [r["lost"]["value"] for r in found]
                axes.plot(share, value, marker="o", markersize=3, color=colour, label=said)
            axes.axhline(0, color="0.6", linewidth=0.8)
            axes.set(title=title, xlabel="tokens that stop, %")
        panels[0].set_ylabel("nats lost a token")
        drawing.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=3)

    return draw


def repairing(rows: list[dict[str, Any]]) -> Draw:
    """The change of the energy of texts nothing was learned on, a bar a condition."""
    found = {
        r["condition"]: r
        for r in rows
        if r["split"] == -1 and r["against"] == "nothing" and r["top"] == _TOP
    }

    def draw(drawing: Any) -> None:
        axes = drawing.subplots()
        for n, name in enumerate(CONDITIONS):
            row = found[name]
            colour = COLOURS[0] if name == "by attribution" else "0.7"
            change = row["change"]
            axes.barh(n, change, color=colour)
            around = [[change - row["change_low"]], [row["change_high"] - change]]
            axes.errorbar(change, n, xerr=around, color="0.2", linewidth=1, capsize=2)
        axes.set_yticks(range(len(CONDITIONS)), CONDITIONS)
        axes.invert_yaxis()
        axes.axvline(0, color="0.6", linewidth=0.8)
        axes.set_xlabel("change of the energy of other texts, nats a token")

    return draw


def figures() -> list[Figure]:
    """Both of them."""
    stops = json.loads((RESULTS / "exits-smollm2/exits.json").read_text())
    repairs = json.loads((RESULTS / "repair/home.json").read_text())
    return [
        Figure(
            "stopping",
            "SmolLM2-135M: what stopping after 20 of 30 blocks costs",
            "",
            stops["texts"],
            (),
            (7.2, 3.5),
            stopping(stops["rows"]),
        ),
        Figure(
            "repair",
            f"{_TOP} features turned by what their gradients say",
            "",
            repairs["rows"][0]["n_judged"],
            (),
            (5.2, 3.2),
            repairing(repairs["rows"]),
        ),
    ]


def main() -> None:
    for figure in figures():
        svg, png = drawn(figure)
        (OUT / f"{figure.name}.svg").write_text(svg, encoding="utf-8")
        (OUT / f"{figure.name}.png").write_bytes(png)


if __name__ == "__main__":
    main()
