"""The short form of the null suite: every p and q without a signal rejects as rarely as it says,
every interval holds what it should, and faults that were once made are seen. `make nulls` is the
long form."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import polars as pl
import pytest

from energylens.ingest.index import coactivation, panel, routing
from energylens.queries.catalog import call, named_queries
from tests.nulls import index, runs, simulations
from tests.nulls.columns import (
    NO_TEST,
    PASSED_ON,
    SIMULATED,
    columns_of_queries,
    columns_of_schema,
    is_test,
    of_table,
    simulated_as,
)
from tests.nulls.memory import Memory
from tests.nulls.routing import unrelated as unrelated_routers
from tests.nulls.simulations import BUNDLED, LOGNORMAL, SIMULATIONS, simulate
from tests.nulls.tally import COVER, NULL, POWER, Rate, Tally
from tests.nulls.worlds import world
from tests.synthetic import RUN, SAE, Layout

LEAST_COVERED, MOST_REJECTED = 0.93, 0.06
SEEDS = {
    "features": 3, "features, profile": 1, "features, covariates": 1, "features, planted": 1,
    "patterns": 3, "patterns, planted": 1, "effects": 3, "fits": 3, "resampled": 2,
    "judges": 3, "repairs": 3,
    "resampled, planted": 1, "routers": 2, "routers, lexical": 2, "routers, blind": 2,
    "routers, planted": 1, "runs, same texts": 2, "runs, other texts": 2,
    "runs, same texts, planted": 1, "runs, other texts, planted": 1,
}  # fmt: skip
"""Runs of each simulation, all on the hardest layout it has. Of the figures of routers only
informations that are none are held against their intervals: the others' truth takes too long."""


@pytest.fixture(scope="module")
def memory() -> Memory:
    return Memory()


@pytest.fixture(scope="module")
def counted(memory: Memory) -> Iterator[dict[str, list[list[int]]]]:
    """What all simulations count, by column and by what is counted."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulations, "_truth", lambda layout, is_planted: {})
        yield together(_all(memory))


def _all(memory: Memory) -> Iterator[Tally]:
    for simulation in SIMULATIONS:
        layout = LOGNORMAL if LOGNORMAL in simulation.layouts else simulation.layouts[-1]
        for seed in range(SEEDS[simulation.name]):
            yield simulate(memory, simulation, layout, seed)


def together(tallies: Iterable[Tally]) -> dict[str, list[list[int]]]:
    found: dict[str, list[list[int]]] = defaultdict(list)
    for tally in tallies:
        for key, counts in tally.counts.items():
            found[key].append(counts)
    return found


def least_error(rate: Rate) -> float:
    """Three errors, none less than that of as many independent draws."""
    return 3 * max(rate.error, np.sqrt(0.05 * 0.95 / rate.n))


def test_every_p_q_and_interval_of_the_schema_is_in_the_suite() -> None:
    for column in columns_of_schema():
        known = simulated_as(column)
        assert known is None or known in SIMULATED, f"{column} is in no simulation"
    for column in columns_of_queries():
        if column not in NO_TEST:
            shown = of_table(column)
            assert shown is not None, f"{column} is shown by a query and is in no simulation"
            known = shown if shown in SIMULATED else simulated_as(shown)
            assert known in SIMULATED, column


def test_every_one_of_the_suite_is_simulated_with_and_without_a_signal(
    counted: dict[str, list[list[int]]],
) -> None:
    seen = {key.split(" (")[0].split("|")[0] for key in counted}
    whats: dict[str, set[str]] = defaultdict(set)
    for key in counted:
        whats[key.split("|")[0].split(" (")[0]].add(key.split("|")[1])
    assert seen >= SIMULATED, sorted(SIMULATED - seen)
    for column in SIMULATED:
        assert whats[column] & {NULL, COVER}, column
        if NULL in whats[column]:
            assert POWER in whats[column], column


def test_without_a_signal_nothing_is_rejected_more_often_than_it_says(
    counted: dict[str, list[list[int]]],
) -> None:
    for key, runs_of in sorted(counted.items()):
        rate, what = Rate.of(runs_of), key.split("|")[1]
        sys.stdout.write(f"{key}: {rate.share:.3f} +- {rate.error:.3f} of {rate.n}\n")
        if what == NULL:
            assert rate.share <= MOST_REJECTED + least_error(rate), (key, rate)
        if what == COVER:
            assert rate.share >= LEAST_COVERED - least_error(rate), (key, rate)


def test_what_is_planted_is_found(counted: dict[str, list[list[int]]]) -> None:
    for column in ("efas.p_flip", "coactivation.p", "specialists.p", "routing_features.p",
                   "routing_circuits.p", "routing_information.p (category)"):  # fmt: skip
        assert Rate.of(counted[f"{column}|{POWER}"]).share >= 0.5, column


@pytest.mark.parametrize("n_texts", [3, 8])
def test_few_texts_have_no_test_that_counts_them(memory: Memory, n_texts: int) -> None:
    layout = Layout(f"{n_texts} texts", n_texts, "bundled")
    simulated = {RUN: world(layout, 0, with_routing=True)}
    memory.fill(simulated)
    found = memory.index(
        simulated, ("efas", "specialists", "coactivation", "routing", "routing_features")
    )
    for table, rows in found.items():
        if table == "specialists":  # labels dealt to eight texts have an exact p
            continue
        for name in filter(is_test, rows.columns):
            assert len(rows) and rows[name].null_count() == len(rows), f"{table}.{name}"


def test_what_queries_pass_on_is_what_the_tables_hold(memory: Memory) -> None:
    simulated = {RUN: world(LOGNORMAL, 0, is_planted=True, with_routing=True)}
    memory.fill(simulated)
    found = memory.index(
        simulated, ("efas", "specialists", "coactivation", "routing", "routing_features"), 99
    )
    n_seen = 0
    for query, table in PASSED_ON.items():
        if table not in found:
            continue
        known = {p.name for p in named_queries()[query].parameters}
        given = {"run": RUN, "sae": SAE, "feature": 0, "in_category": "a", "k": 1000}
        rows = call(memory, query, **{n: v for n, v in given.items() if n in known})
        for name in filter(is_test, rows.columns):
            held = set(found[table][name].drop_nulls())
            assert set(rows[name].drop_nulls()) <= held, (query, name)
            n_seen += 1
    assert n_seen > 15


def test_every_p_of_a_comparison_is_counted(memory: Memory) -> None:
    found = runs.comparison(memory, LOGNORMAL, 0, is_paired=True, is_planted=False)
    known = {key.split(" (")[0] for key in runs.count(found, "same texts", False).counts}
    for name in ("energies", "features", "specialists"):
        frame: pl.DataFrame = getattr(found, name)
        for column in filter(is_test, frame.columns):
            kept = "low" if column == "high" else column
            assert f"compare_runs.{name}.{kept}" in known, (name, column)


def rejected(tallies: Iterable[Tally], key: str) -> float:
    return Rate.of(together(tallies)[key]).share


def test_clusters_of_contexts_are_seen_to_be_wrong(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_context = panel._TEXTS.replace(" c.text_id,", " c.context_id AS text_id,")
    assert by_context != panel._TEXTS
    monkeypatch.setattr(panel, "_TEXTS", by_context)
    tallies = [index.unrelated(memory, LOGNORMAL, seed, "plain") for seed in range(3)]
    assert rejected(tallies, "efas.p_efas|null") > 0.1


def test_lengths_left_out_are_seen_to_be_wrong(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coactivation, "strata_of", lambda n: np.zeros(len(n), dtype=np.int64))
    tallies = [index.unrelated(memory, LOGNORMAL, seed, "plain") for seed in range(2)]
    assert rejected(tallies, "coactivation.p|null") > 0.1


def test_categories_dealt_to_tokens_are_seen_to_be_wrong(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dealt(choice: np.ndarray, label: np.ndarray, _: np.ndarray):
        return lambda generator: (choice, generator.permutation(label))

    monkeypatch.setattr(routing, "dealt", dealt)
    monkeypatch.setattr(routing, "N_DRAWS", 39)
    tallies = [unrelated_routers(memory, BUNDLED, seed, "lexical", {}) for seed in range(2)]
    assert rejected(tallies, "routing_information.p (category_given_token)|null") > 0.5


def test_a_p_of_zero_is_seen_to_be_wrong() -> None:
    with pytest.raises(AssertionError, match="p of 0"):
        Tally().p("resample_features.p_text", pl.Series([0.0, 0.5]))
