"""Every figure of a router with its interval by texts and the baseline it is held against."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import stats

from energylens.ingest.index.routes import Routed, Tokens
from energylens.stats.clusters import Interval, jackknife
from energylens.stats.information import (
    Information,
    information_interval,
    omega_squared,
    partial_spearman,
)

_DRAWS = 200
"""Random routers behind the baseline of the loads."""


@dataclass(frozen=True)
class Metric:
    """A row of `routing_metrics`."""

    word: str
    metric: str
    value: float
    value_low: float
    value_high: float
    baseline: float


@dataclass(frozen=True)
class Labels:
    """First choices and what they may tell of, over the same tokens."""

    choice: np.ndarray
    label: np.ndarray
    text: np.ndarray
    given: np.ndarray | None = None


def labels_of(tokens: Tokens, one: Routed) -> dict[str, Labels]:
    """What a router's choices are held against; labels nothing is known of are left out."""
    choice = one.choices[:, 0].astype(np.int64)
    found = {
        "part": Labels(choice, tokens.part, tokens.text),
        "token": Labels(choice, tokens.vocab_id, tokens.text),
        "class": Labels(choice, tokens.kind, tokens.text),
    }
    named = tokens.category >= 0
    if len(np.unique(tokens.category[named])) > 1:
        own, label, text = choice[named], tokens.category[named], tokens.text[named]
        found["category"] = Labels(own, label, text)
        found["category_given_token"] = Labels(own, label, text, tokens.vocab_id[named])
    known = np.isfinite(tokens.energy)
    if known.any():
        own, text = choice[known], tokens.text[known]
        decile = _deciles(tokens.energy[known])
        found["energy"] = Labels(own, decile, text)
        found["energy_given_token"] = Labels(own, decile, text, tokens.vocab_id[known])
    return found


def metrics(tokens: Tokens, one: Routed, told: dict[str, Information]) -> Iterator[Metric]:
    """The figures of one router: efficiency, specialization, energy, and the words' first ones."""
    yield from _efficiency(tokens, one)
    for label, labels in sorted(labels_of(tokens, one).items()):
        information = told[label]
        bits = Interval(information.adjusted, np.nan, np.nan)
        if labels.given is None:  # what is given leaves a bias that no interval by texts knows of
            bits = information_interval(labels.choice, labels.label, labels.text, information)
        yield _metric("specialization", f"{label}_bits", bits, 0.0)
        if information.entropy > 0:
            share = [x / information.entropy for x in (bits.value, bits.low, bits.high)]
            yield _metric("specialization", f"{label}_share", Interval(*share), 0.0)
    yield from _energy(tokens, one)
    yield from _origin(tokens, one)


def _efficiency(tokens: Tokens, one: Routed) -> Iterator[Metric]:
    n, k = one.p.shape
    scale = np.log(k) if k > 1 else np.nan

    def figures(kept: np.ndarray) -> np.ndarray:
        load = np.bincount(one.choices[kept].ravel(), minlength=k)
        within = one.entropy[kept].mean()
        marginal = stats.entropy(one.p[kept].mean(axis=0))
        spread = _load_figures(load[None] / max(load.sum(), 1))
        return np.array([1 - within / scale, (marginal - within) / scale, *spread[:, 0]])

    found = jackknife(figures, tokens.text)
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(max(one.choices.size, 1), np.full(k, 1 / k), _DRAWS)
    anywhere = _load_figures(drawn / max(one.choices.size, 1)).mean(axis=1)
    names = ("concentration", "routing_information", "max_vio", "load_cv")
    for name, interval, baseline in zip(names, found, (0.0, 0.0, *anywhere), strict=True):
        yield _metric("efficiency", name, interval, float(baseline))
    dead = float(k - len(np.unique(one.choices))) if n else np.nan
    yield Metric("efficiency", "dead_anchors", dead, np.nan, np.nan, 0.0)


def _load_figures(loads: np.ndarray) -> np.ndarray:
    """[2, draws]: MaxVio and the coefficient of variation of shares [draws, k]."""
    k = loads.shape[1]
    return np.stack([loads.max(axis=1) * k - 1, loads.std(axis=1) * k])


def _energy(tokens: Tokens, one: Routed) -> Iterator[Metric]:
    known = np.isfinite(tokens.energy)
    if known.sum() < 3:
        return
    energy, text = tokens.energy[known], tokens.text[known]
    sure, choice = one.p.max(axis=1)[known], one.choices[known, 0]
    ranked = partial_spearman(energy, sure, tokens.covariates[known], text)
    error = abs(ranked.r / ranked.t) if ranked.t else np.nan
    reach = float(stats.t.ppf(0.975, max(len(np.unique(text)) - 1, 1))) * error
    spearman = Interval(ranked.r, ranked.r - reach, ranked.r + reach)
    yield _metric("energy", "spearman_given_frequency_and_position", spearman, 0.0)
    seen, entropy = one.seen_energy[known], tokens.entropy[known]

    def figures(kept: np.ndarray) -> np.ndarray:
        own = energy[kept]
        ceiling = pearson(entropy[kept], own)
        causal = pearson(seen[kept], own) if np.isfinite(seen[kept]).all() else np.nan
        return np.array([omega_squared(own, choice[kept]), ceiling, causal, causal - ceiling])

    names = ("omega_squared", "ceiling", "seen_energy", "seen_energy_over_ceiling")
    for name, interval in zip(names, jackknife(figures, text), strict=True):
        if np.isfinite(interval.value):
            yield _metric("energy", name, interval, 0.0)


def _origin(tokens: Tokens, one: Routed) -> Iterator[Metric]:
    """The formulas the words come from, computed as they were, but for padding."""
    k = one.p.shape[1]
    scale = np.log(k) if k > 1 else np.nan
    known = np.isfinite(tokens.energy)
    _, text = np.unique(tokens.text[known], return_inverse=True)
    counts = np.bincount(text)

    def by_text(values: np.ndarray) -> np.ndarray:
        return np.bincount(text, values[known]) / counts

    together = pearson(by_text(tokens.energy), by_text(one.p.max(axis=1)))

    def figures(kept: np.ndarray) -> np.ndarray:
        return np.array([1 - one.entropy[kept].mean() / scale, 1 - one.p[kept].mean(axis=0).std()])

    for name, interval, baseline in zip(
        ("routing_efficiency", "specialization_strength"),
        jackknife(figures, tokens.text),
        (0.0, 1.0),
        strict=True,
    ):
        yield _metric("origin", name, interval, baseline)
    yield Metric("origin", "energy_routing_correlation", together, np.nan, np.nan, 0.0)


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation; NaN where there are fewer than three or one is constant."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


def _deciles(values: np.ndarray) -> np.ndarray:
    edges = np.quantile(values, np.arange(1, 10) / 10)
    return np.searchsorted(edges, values, side="right").astype(np.int64)


def _metric(word: str, metric: str, interval: Interval, baseline: float) -> Metric:
    return Metric(word, metric, interval.value, interval.low, interval.high, baseline)
