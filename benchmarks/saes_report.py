"""The page that `python -m benchmarks.saes` writes of its rows."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.saes import Row

SHOWN_STEPS = (50, 100, 150, 200, 250)
"""Steps of the curves."""


def report(rows: "Sequence[Row]") -> str:
    """The page; what it says in words is computed from the rows too."""
    return "\n".join(_parts(rows)) + "\n"


def _parts(rows: "Sequence[Row]") -> Iterator[str]:
    yield "# Architectures of SAEs beside each other\n"
    yield (
        "Made by `python -m benchmarks.saes`; the figures lie in `benchmarks/results/saes.json`. "
        "SAEs of 512 features, 250 steps of 1,024 activations from a pool of 98,304, learning rate "
        "0.003, one seed; seconds are of one core that other work shared. So short a training "
        "ranks no architecture: it shows what each of them does with so few steps.\n"
    )
    yield (
        "* **L0, fvu**: as the gate measures them, on about 4,000 held-out tokens; **dead**: share "
        "of features that none of these tokens makes active.\n"
        "* **CE recovered**: of the loss that zeros cost, on 2,048 tokens. Above 1 the model "
        "predicts better with the SAE's output than with its own activations, and this figure "
        "means little.\n"
        "* **frontier**: no other SAE of the model has both smaller L0 and smaller fvu, pursuit "
        "left out; **seconds**: of training; of encoding the held-out tokens for pursuit.\n"
    )
    for model, group in groupby(rows, lambda row: row.model):
        own = list(group)
        yield f"## {model}, {own[0].hook}\n"
        yield f"Trained on {own[0].texts}, measured on {own[0].heldout}.\n"
        yield from _table(own)
        yield from _resampling(own)
        yield from _coefficients(own)
        yield from _pursuit(own)
        yield from _curves(own)


def _table(rows: "list[Row]") -> Iterator[str]:
    yield "| SAE | knob | L0 | fvu | CE recovered | dead | frontier | seconds |"
    yield "|---|---|---:|---:|---:|---:|---|---:|"
    trained = [row for row in rows if row.curve]
    for row in rows:
        is_best = bool(row.curve) and not any(_is_better(other, row) for other in trained)
        recovered = "·" if row.ce_recovered is None else f"{row.ce_recovered:.3f}"
        yield (
            f"| {row.kind} | {row.knob} {row.value:g} | {row.l0:.1f} | {row.fvu:.3f} | {recovered} "
            f"| {100 * row.dead_share:.1f} % | {'yes' if is_best else ''} | {row.seconds:.1f} |"
        )
    yield ""


def _is_better(one: "Row", other: "Row") -> bool:
    mine, theirs = (one.l0, one.fvu), (other.l0, other.fvu)
    return mine != theirs and mine[0] <= theirs[0] and mine[1] <= theirs[1]


def _resampling(rows: "list[Row]") -> Iterator[str]:
    plain = {row.value: row for row in rows if row.kind == "standard"}
    again = {row.value: row for row in rows if row.kind == "standard, resampled"}
    if not plain.keys() & again.keys():
        return
    yield "`standard`, without resampling and with it every 100 steps, so twice at most:\n"
    for value in sorted(plain.keys() & again.keys()):
        one, two = plain[value], again[value]
        yield (
            f"* l1 {value:g}: dead {100 * one.dead_share:.1f} % and {100 * two.dead_share:.1f} %, "
            f"L0 {one.l0:.1f} and {two.l0:.1f}, fvu {one.fvu:.3f} and {two.fvu:.3f}"
        )
    yield ""


def _coefficients(rows: "list[Row]") -> Iterator[str]:
    for kind in ("jumprelu", "jumprelu, tanh"):
        own = [row for row in rows if row.kind == kind]
        if len(own) > 1:
            low, high = min(own, key=lambda r: r.value), max(own, key=lambda r: r.value)
            yield (
                f"`{kind}`: from coefficient {low.value:g} to {high.value:g}, "
                f"{high.value / low.value:,.0f} times as much, L0 goes from {low.l0:.1f} to "
                f"{high.l0:.1f}.\n"
            )


def _pursuit(rows: "list[Row]") -> Iterator[str]:
    pursued = [row for row in rows if row.kind.startswith("omp over ")]
    for row in pursued:
        name = row.kind.removeprefix("omp over ")
        own = next(r for r in rows if r.kind == name and r.value == row.value)
        yield (
            f"* pursuit of at most {row.value:g} directions over the dictionary of {name}, k "
            f"{own.value:g}: fvu {row.fvu:.3f} at L0 {row.l0:.1f}; its own encoder's "
            f"{own.fvu:.3f} at {own.l0:.1f}"
        )
    if pursued:
        yield ""


def _curves(rows: "list[Row]") -> Iterator[str]:
    yield "fvu on what was trained on, over the 50 steps up to each:\n"
    yield f"| SAE | knob | {' | '.join(str(step) for step in SHOWN_STEPS)} |"
    yield f"|---|---|{'---:|' * len(SHOWN_STEPS)}"
    for row in rows:
        at = {point.step: point for point in row.curve}
        if at:
            cells = " | ".join(f"{at[s].fvu:.3f}" if s in at else "" for s in SHOWN_STEPS)
            yield f"| {row.kind} | {row.knob} {row.value:g} | {cells} |"
    yield ""
