"""Simulations of two runs that are compared: over the same texts, or over texts of their own."""

import numpy as np
import polars as pl

from energylens.queries.compare import Comparison, compare_runs
from tests.nulls.memory import Memory
from tests.nulls.tally import POWER, Tally
from tests.nulls.worlds import N_FEATURES, N_PLANTED, world
from tests.synthetic import Layout, World

FEWER = tuple(range(N_FEATURES - 6, N_FEATURES))
"""Features that are active half as often in the second run where signal is planted."""


def compared(memory: Memory, layout: Layout, seed: int, is_paired: bool, is_planted: bool) -> Tally:
    """What a comparison says of two runs of which none is the other's better, or of which the
    second reads worse, fires less and aligns more."""
    found = comparison(memory, layout, seed, is_paired, is_planted)
    return count(found, "same texts" if is_paired else "other texts", is_planted)


def comparison(
    memory: Memory, layout: Layout, seed: int, is_paired: bool, is_planted: bool
) -> Comparison:
    """Two such runs, compared."""
    one, two = _pair(layout, seed, is_paired, is_planted)
    worlds = {"one": one, "two": two}
    memory.fill(worlds, is_paired)
    memory.index(worlds, ("efas", "specialists"))
    found = compare_runs(memory, "one", "two", k=N_FEATURES)
    assert found.is_paired == is_paired, "runs are paired by their texts"
    return found


def count(found: Comparison, how: str, is_planted: bool) -> Tally:
    """Its tests, counted."""
    return _planted(found, how) if is_planted else _unrelated(found, how)


def _unrelated(found: Comparison, how: str) -> Tally:
    tally = Tally()
    energies, features = found.energies, found.features
    tally.p(f"compare_runs.energies.p ({how})", energies["p"])
    tally.any(f"compare_runs.energies.q ({how})", energies["q"])
    low, high = (energies[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
                 for name in ("low", "high"))  # fmt: skip
    tally.interval(f"compare_runs.energies.low ({how})", low, high, 0.0)
    for name in ("rate", "efas"):
        tally.p(f"compare_runs.features.p_{name} ({how})", features[f"p_{name}"])
        tally.any(f"compare_runs.features.q_{name} ({how})", features[f"q_{name}"])
    tally.p(f"compare_runs.specialists.p ({how})", found.specialists["p"])
    tally.any(f"compare_runs.specialists.q ({how})", found.specialists["q"])
    return tally


def _planted(found: Comparison, how: str) -> Tally:
    tally = Tally()
    whole = found.energies.filter(pl.col("category").is_null())
    tally.p(f"compare_runs.energies.p ({how})", whole["p"], POWER)
    tally.discoveries(f"compare_runs.energies.q ({how})", whole["q"], pl.Series([True]))
    features = found.features
    for name, planted in (
        ("rate", features["feature_id"].is_in(FEWER)),
        ("efas", features["feature_id"] < N_PLANTED),
    ):
        tally.p(
            f"compare_runs.features.p_{name} ({how})", features.filter(planted)[f"p_{name}"], POWER
        )
        found_q = (features[f"q_{name}"] < 0.05).fill_null(False)
        tally.add(f"compare_runs.features.q_{name} ({how})", POWER, int(planted.sum()),
                  int((found_q & planted).sum()))  # fmt: skip
    tally.p(f"compare_runs.specialists.p ({how})", found.specialists["p"], POWER)
    q = (found.specialists["q"] < 0.05).fill_null(False)
    tally.add(f"compare_runs.specialists.q ({how})", POWER, len(q), int(q.sum()))
    return tally


def _pair(layout: Layout, seed: int, is_paired: bool, is_planted: bool) -> tuple[World, World]:
    one = world(layout, seed)
    generator = np.random.default_rng([seed, 77])
    if not is_paired:
        two = world(layout, seed + 50_000, is_planted=is_planted)
    else:
        two = world(layout, seed, again=1, is_planted=is_planted)
        places = one.places
        assert one.energy is not None and two.energy is not None
        two.energy = np.sqrt(one.energy * two.energy)
        one.energy = np.sqrt(one.energy * world(layout, seed, again=2).energy)
        same = generator.random((places.n_texts, N_FEATURES)) < 0.5
        same[:, : 2 * N_PLANTED] &= not is_planted
        two.z = np.where(same[places.text], one.z, two.z)
    if is_planted:
        assert two.energy is not None
        two.energy = two.energy * 1.3
        for f in FEWER:
            two.z[generator.random(len(two.z)) < 0.5, f] = 0.0
    return one, two
