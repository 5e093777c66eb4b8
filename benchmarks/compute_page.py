"""docs/findings/compute.md from what the benchmarks of claim one have left.

    python -m benchmarks.compute_page

Reads benchmarks/results/exits-smollm2/exits.json (benchmarks.exits) and every
benchmarks/results/refinement-*/refinement.json (benchmarks.refinement).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[1] / "docs/findings/compute.md"
RULES = (
    "random",
    "entropy",
    "predicted energy",
    "predicted drop",
    "drop shuffled",
    "previous drop",
    "oracle",
)
_HEAD = """# Compute that follows the energy drop: the tables

Made by `python -m benchmarks.compute_page`; what is made of it stands in
[findings](../findings.md#which-tokens-may-stop-early). Intervals are 95 %, clustered by text.
"""
_STATES = {
    "own": "each stopped token alone",
    "frozen": "stopped tokens stay what they are, and later ones read that",
}
_REFINEMENT = """
## A read-out that first goes down the energy it foretells

A network of two layers foretells the energy of the next token from the last stream x, and x goes
down the gradient of that by `size` of its length, `steps` times, before it is read out. Fitted, and
size and steps chosen, on the even texts; nats gained or lost on the odd ones against the plain
read-out, negative is better. Beside it the same steps along random directions, along one direction
for all, and down the true gradient, which knows the next token. `python -m benchmarks.refinement`.
"""


def page() -> Iterator[str]:
    """Its lines."""
    yield _HEAD
    yield from exits(json.loads((RESULTS / "exits-smollm2/exits.json").read_text("utf-8")))
    found = sorted(RESULTS.glob("refinement-*/refinement.json"))
    if found:
        yield _REFINEMENT
        yield "| model | tokens, texts | direction | seed | size, steps | nats |"
        yield "|---|---|---|---|---|---|"
        for file in found:
            yield from refinement(json.loads(file.read_text("utf-8")))
        yield ""
        yield from _known(found)


def exits(told: dict[str, Any]) -> Iterator[str]:
    """What stopping costs, a table a way of counting."""
    rows = told["rows"]
    counted = f"{told['tokens']:,} tokens of {told['texts']} texts"
    yield f"## SmolLM2-135M, heads fitted afterwards: {counted}"
    for states, said in _STATES.items():
        mine = [row for row in rows if row["states"] == states]
        rules = [rule for rule in RULES if any(row["rule"] == rule for row in mine)]
        yield f"\n### Nats lost a token: {said}\n"
        yield f"| after block | stop | {' | '.join(rules)} |"
        yield "|---|---|" + "---|" * len(rules)
        for depth, share in dict.fromkeys((row["depth"], row["share"]) for row in mine):
            cells = [_cell(mine, depth, share, rule, "lost") for rule in rules]
            yield f"| {depth} | {share:.0%} | {' | '.join(cells)} |"
        yield "\nThe same less that of as many tokens drawn at random:\n"
        others = [rule for rule in rules if rule != "random"]
        yield f"| after block | stop | {' | '.join(others)} |"
        yield "|---|---|" + "---|" * len(others)
        for depth, share in dict.fromkeys((row["depth"], row["share"]) for row in mine):
            cells = [_cell(mine, depth, share, rule, "against_random") for rule in others]
            yield f"| {depth} | {share:.0%} | {' | '.join(cells)} |"
    yield "\n### Share of next tokens no longer guessed, stopped tokens alone\n"
    yield f"| after block | stop | {' | '.join(RULES)} |"
    yield "|---|---|" + "---|" * len(RULES)
    own = {(r["depth"], r["share"], r["rule"]): r for r in rows if r["states"] == "own"}
    for depth, share in dict.fromkeys((d, s) for d, s, _ in own):
        cells = [f"{own[depth, share, rule]['accuracy_lost']:.3f}" for rule in RULES]
        yield f"| {depth} | {share:.0%} | {' | '.join(cells)} |"


def _cell(rows: list[dict[str, Any]], depth: int, share: float, rule: str, what: str) -> str:
    (row,) = [r for r in rows if (r["depth"], r["share"], r["rule"]) == (depth, share, rule)]
    return interval(row[what])


def interval(told: dict[str, float]) -> str:
    return f"{told['value']:.3f} ({told['low']:.3f} to {told['high']:.3f})"


def refinement(told: dict[str, Any]) -> Iterator[str]:
    for row in told["rows"]:
        lost = row["lost"]
        nats = f"{lost['value']:+.4f} ({lost['low']:+.4f} to {lost['high']:+.4f})"
        where = f"{told['model']} | {told['tokens']:,}, {told['texts']}"
        yield (
            f"| {where} | {row['direction']} | {row['seed']} | {row['size']:g}, {row['steps']} | "
            f"{nats} |"
        )


def _known(files: list[Path]) -> Iterator[str]:
    for file in files:
        told = json.loads(file.read_text("utf-8"))
        known = [row["variance_known"] for row in told["rows"]]
        yield (
            f"Of {told['model']}'s energy on the odd texts the network knows {min(known):.0%} to "
            f"{max(known):.0%} of the variance.\n"
        )


def main() -> None:
    PAGE.write_text("\n".join(page()).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
