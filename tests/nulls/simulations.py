"""Every simulation of the suite, on which layouts, and how many of each."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from energylens.ingest.index import routing as index_routing
from tests.nulls import index, routing, runs, samples
from tests.nulls.memory import Memory
from tests.nulls.tally import Tally
from tests.synthetic import Layout

EVEN = Layout()
BUNDLED = Layout("bundled", 100, "bundled", 64, (0.5, 0.3, 0.15, 0.05))
"""Lengths of the bundled texts, up to five contexts a text, categories of 50 to 5 texts."""
LOGNORMAL = Layout("lognormal", 120, "lognormal", 16)
"""A long tail, up to 57 contexts a text."""
SORTED = Layout("sorted", 100, "bundled", 64, is_sorted=True)
"""Categories whose texts are short or long."""
TWELVE = Layout("twelve", 12, "bundled", 64)
"""About as few texts as tests are made of."""
LAYOUTS = (EVEN, BUNDLED, LOGNORMAL, SORTED, TWELVE)
N_DRAWS = 99
"""Of each null of an information, where the program draws 200: levels are exact with either."""


@dataclass(frozen=True)
class Simulation:
    name: str
    layouts: tuple[Layout, ...]
    every: int
    """Made for every so many seeds."""
    run: Callable[[Memory, Layout, int], Tally]


def _index(kind: str) -> Callable[[Memory, Layout, int], Tally]:
    return lambda memory, layout, seed: index.unrelated(memory, layout, seed, kind)


def _routing(kind: str) -> Callable[[Memory, Layout, int], Tally]:
    def run(memory: Memory, layout: Layout, seed: int) -> Tally:
        truth = _truth(layout, False) if kind == "plain" else {}
        return routing.unrelated(memory, layout, seed, kind, truth)

    return run


@cache
def _truth(layout: Layout, is_planted: bool) -> routing.Truth:
    return routing.truth_of(Memory(), layout, is_planted)


def _compared(is_paired: bool, is_planted: bool) -> Callable[[Memory, Layout, int], Tally]:
    return lambda memory, layout, seed: runs.compared(memory, layout, seed, is_paired, is_planted)


def _resampled(is_planted: bool) -> Callable[[Memory, Layout, int], Tally]:
    return lambda _, layout, seed: samples.resampled(layout, seed, is_planted)


ROUTED = (BUNDLED, LOGNORMAL, TWELVE)
COMPARED = (EVEN, BUNDLED, LOGNORMAL)
SIMULATIONS = (
    Simulation("features", LAYOUTS, 1, _index("plain")),
    Simulation("features, profile", LAYOUTS, 4, _index("profile")),
    Simulation("features, covariates", LAYOUTS, 4, _index("covariates")),
    Simulation("features, planted", LAYOUTS, 4, index.planted),
    Simulation("patterns", LAYOUTS, 1, lambda *of: index.patterns(*of, is_planted=False)),
    Simulation("patterns, planted", LAYOUTS, 4, lambda *of: index.patterns(*of, is_planted=True)),
    Simulation("effects", (EVEN, BUNDLED, LOGNORMAL, TWELVE), 1,
               lambda _, x, seed: samples.effects(x, seed)),
    Simulation("fits", (EVEN,), 1, lambda _, x, seed: samples.fits(x, seed)),
    Simulation("resampled", COMPARED, 2, _resampled(False)),
    Simulation("resampled, planted", COMPARED, 6, _resampled(True)),
    Simulation("judges", LAYOUTS, 1, lambda _, x, seed: samples.judges(x, seed)),
    Simulation("repairs", (EVEN, BUNDLED, LOGNORMAL), 1,
               lambda _, x, seed: samples.repairs(x, seed)),
    Simulation("routers", ROUTED, 1, _routing("plain")),
    Simulation("routers, lexical", ROUTED, 2, _routing("lexical")),
    Simulation("routers, blind", ROUTED, 2, _routing("blind")),
    Simulation(
        "routers, planted", ROUTED, 4,
        lambda memory, layout, seed: routing.planted(memory, layout, seed, _truth(layout, True)),
    ),
    Simulation("runs, same texts", COMPARED, 1, _compared(True, False)),
    Simulation("runs, other texts", COMPARED, 1, _compared(False, False)),
    Simulation("runs, same texts, planted", COMPARED, 4, _compared(True, True)),
    Simulation("runs, other texts, planted", COMPARED, 4, _compared(False, True)),
)  # fmt: skip


def due(seed: int) -> Iterator[tuple[Simulation, Layout]]:
    """What is simulated with a seed."""
    for simulation in SIMULATIONS:
        if seed % simulation.every == 0:
            for layout in simulation.layouts:
                yield simulation, layout


def simulate(memory: Memory, simulation: Simulation, layout: Layout, seed: int) -> Tally:
    """One run of one simulation."""
    kept = index_routing.N_DRAWS
    index_routing.N_DRAWS = N_DRAWS
    try:
        return simulation.run(memory, layout, seed)
    finally:
        index_routing.N_DRAWS = kept
