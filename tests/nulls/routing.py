"""Simulations of what is said of routers: information, circuits, energies, intervals."""

import numpy as np
import polars as pl

from energylens.ingest.index.routes import read_routing
from energylens.ingest.index.routing_metrics import labels_of, metrics
from energylens.stats.information import Information, mutual_information
from tests.nulls.memory import Frames, Memory
from tests.nulls.tally import POWER, Tally
from tests.nulls.worlds import world
from tests.synthetic import RUN, Layout

FREE = ("category", "energy", "part")
"""Labels that know nothing of the choice in a plain world, though the token does."""
GIVEN = ("category_given_token", "energy_given_token")
NOT_LEXICAL = ("class", "token")
"""Labels that know nothing of the choice where tokens do not route."""
Truth = dict[str, float]
"""A figure's value over very many texts, by layer and metric."""


def unrelated(memory: Memory, layout: Layout, seed: int, kind: str, truth: Truth) -> Tally:
    """Routers whose choices have nothing to do with each other, the category or the energy; in a
    lexical world but for the token, and in a blind one they do not follow the token either."""
    found = _index(memory, layout, seed, kind, is_planted=False)
    tally = Tally()
    labels = {"plain": FREE, "lexical": GIVEN, "blind": NOT_LEXICAL}[kind]
    told = found["routing_information"]
    for label in labels:
        tally.p(f"routing_information.p ({label})", told.filter(pl.col("label") == label)["p"])
    bits = found["routing_metrics"].filter(pl.col("metric").is_in([f"{x}_bits" for x in labels]))
    for row in bits.iter_rows(named=True):
        _zero(tally, row)
    if kind == "blind":
        return tally
    circuits = found["routing_circuits"]
    tally.p("routing_circuits.p", circuits["p"])
    for _, own in circuits.group_by("n_layers"):
        tally.any("routing_circuits.q", own["q"])
    if kind == "plain":
        drop, error = (_numbers(circuits[name]) for name in ("energy_drop", "energy_drop_error"))
        reach = 1.96 * error
        tally.interval("routing_circuits.energy_drop_error", drop - reach, drop + reach, 0.0)
        tally.p("routing_layers.energy_p", found["routing_layers"]["energy_p"])
        _covered(tally, found, truth)
    return tally


def planted(memory: Memory, layout: Layout, seed: int, truth: Truth) -> Tally:
    """Routers with a path, a category and an energy of their own."""
    found = _index(memory, layout, seed, "plain", is_planted=True)
    tally = Tally()
    told = found["routing_information"]
    for label, layer in (("category", 0), ("category_given_token", 0), ("energy", 1),
                         ("energy_given_token", 1), ("token", 2), ("class", 2)):  # fmt: skip
        own = told.filter((pl.col("label") == label) & (pl.col("layer") == layer))
        tally.p(f"routing_information.p ({label})", own["p"], POWER)
    paths = found["routing_circuits"].filter(pl.col("n_layers") == 3)
    own = paths.filter(pl.col("choices") == [3, 1, 2])
    tally.p("routing_circuits.p", own["p"], POWER)
    tally.add("routing_circuits.q", POWER, len(own), int((own["q"] < 0.05).sum()))
    tally.p("routing_layers.energy_p", found["routing_layers"]["energy_p"], POWER)
    _covered(tally, found, truth)
    return tally


def truth_of(memory: Memory, layout: Layout, is_planted: bool) -> Truth:
    """Every figure over three thousand texts: what intervals should hold."""
    many = Layout(layout.name, 3000, layout.lengths, layout.n_ctx, layout.shares)
    simulated = world(many, 10_000, is_planted=is_planted, with_routing=True)
    memory.fill({RUN: simulated})
    routing = read_routing(memory.con, RUN)
    assert routing is not None
    tokens, routed = routing
    found: Truth = {}
    for one in routed:
        told = {}
        for label, labels in labels_of(tokens, one).items():
            own, given = labels.label, labels.given
            observed = mutual_information(labels.choice, own)
            if given is not None:
                pair = given * (int(own.max()) + 1) + own
                observed = mutual_information(labels.choice, pair) - mutual_information(
                    labels.choice, given
                )
            told[label] = Information(observed, 0.0, 1.0, np.nan)
        for metric in metrics(tokens, one, told):
            found[f"{one.layer} {metric.metric}"] = metric.value
    return found


def _index(memory: Memory, layout: Layout, seed: int, kind: str, is_planted: bool) -> Frames:
    simulated = {RUN: world(layout, seed, kind, is_planted, with_routing=True)}
    memory.fill(simulated)
    return memory.index(simulated, ("routing",))


def _numbers(values: pl.Series) -> np.ndarray:
    return values.cast(pl.Float64).fill_null(np.nan).to_numpy()


def _zero(tally: Tally, row: dict) -> None:
    """The interval of an information that is none."""
    tally.interval(f"routing_metrics ({row['metric']}, none)", *_bounds(row), 0.0)


def _covered(tally: Tally, found: Frames, truth: Truth) -> None:
    for row in found["routing_metrics"].iter_rows(named=True):
        known = truth.get(f"{row['layer']} {row['metric']}")
        if known is None or row["metric"].endswith("_share"):
            continue
        tally.interval(f"routing_metrics ({row['metric']})", *_bounds(row), known)


def _bounds(row: dict) -> tuple[np.ndarray, np.ndarray]:
    return (
        np.array([row["value_low"]], dtype=float),
        np.array([row["value_high"]], dtype=float),
    )
