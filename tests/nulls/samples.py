"""Simulations of what is computed from numbers a model gave: effects of ablations and of permuted
energies, predictions held against measurements, and tests that need g at every token."""

from functools import cache
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from energylens.ingest.on_request.routing_effects import _Work
from energylens.lens.ablation import agreement
from energylens.lens.rerouting import Ablated, Rerouted
from energylens.lens.routers import Router
from energylens.stats.balanced import judged
from energylens.stats.repairs import halvings, together
from energylens.stats.repairs import judged as judged_change
from energylens.stats.resampling import permute_texts, shift_windows
from tests.nulls.tally import POWER, Tally
from tests.nulls.worlds import N_PLANTED, Effects, world
from tests.synthetic import Layout

N_DRAWS = 99
N_JUDGES = 40
OWN, OTHERS = 0.3, 0.1
"""Nats that an anchor's own tokens and the others lose without it."""
REPAIRED = -0.2
"""Nats that gains change the energy by, on average over what they may be learned on."""


def _router() -> Router:
    """A router of no model: it has a name and a layer, and nothing to read."""
    made = object.__new__(Router)
    object.__setattr__(made, "name", "router")
    object.__setattr__(made, "layer", 0)
    return made


def effects(layout: Layout, seed: int) -> Tally:
    """Ten of `_effects`: they cost next to nothing."""
    return _summed([_effects(layout, 10 * seed + i) for i in range(10)])


def repairs(layout: Layout, seed: int) -> Tally:
    """Ten of `_repairs`."""
    return _summed([_repairs(layout, 10 * seed + i) for i in range(10)])


def _summed(tallies: list[Tally]) -> Tally:
    whole = Tally()
    for tally in tallies:
        for key, (n, hits) in tally.counts.items():
            column, what = key.split("|")
            whole.add(column, what, n, hits)
    return whole


def _effects(layout: Layout, seed: int) -> Tally:
    """`energy_permutations` and `anchor_ablations` of changes whose means are known: skewed, with
    a level of their own in each text, at tokens that keep to some texts."""
    generator = np.random.default_rng([seed, 5])
    places = layout.draw(seed)
    n, tally = places.n_tokens, Tally()

    def noise() -> np.ndarray:
        own = generator.gamma(1.0, 0.3, places.n_texts) - 0.3
        return own[places.text] + generator.gamma(0.5, 0.6, n) - 0.3

    used = generator.random(n) < generator.beta(1.0, 3.0, places.n_texts)[places.text]
    change = np.where(used, OWN, OTHERS) + noise()
    work = cast(Any, SimpleNamespace(text=places.text))
    ablated = Ablated(torch.from_numpy(used), torch.from_numpy(change))
    row = _Work._ablated(work, _router(), 0, [ablated])
    for name, truth in (("own", OWN), ("others", OTHERS), ("difference", OWN - OTHERS)):
        _interval(tally, f"anchor_ablations.{name}", row, name, truth)
    moved = generator.random(n) < np.repeat(generator.beta(1.0, 4.0, places.n_texts), places.length)
    found = Rerouted(*(torch.from_numpy(x) for x in _rerouted(noise, moved)))
    row = _Work._rerouted(work, [_router()], [{"router": found}], is_all=False)
    for name, truth in (("total_variation", 0.5), ("moved", 0.2), ("energy_change", 0.2)):
        _interval(tally, f"energy_permutations.{name}", row, name, truth)
    return tally


def _repairs(layout: Layout, seed: int) -> Tally:
    """`repairs` of gains whose effect is known: it differs by the half they were learned on, and
    each text has a level of its own in all splits."""
    generator = np.random.default_rng([seed, 7])
    places, tally = layout.draw(seed), Tally()
    level = generator.gamma(1.0, 0.3, places.n_texts) - 0.3
    found, truths = [], []
    for learned in halvings(places.n_texts, 4, seed):
        truth = REPAIRED + 0.05 * generator.standard_normal()
        text = places.text[~learned[places.text]]
        change = truth + level[text] + generator.gamma(0.5, 0.6, len(text)) - 0.3
        found.append(judged_change(change, text))
        truths.append(truth)
    for one, truth in ((together(found), float(np.mean(truths))), (found[0], truths[0])):
        low, high = np.array([one.low]), np.array([one.high])
        tally.interval("repairs.change", low, high, truth)
        tally.excludes_zero("repairs.change", low, high)
    return tally


def _rerouted(noise: Any, moved: np.ndarray) -> tuple[np.ndarray, ...]:
    return 0.5 + 0.2 * noise(), moved, 0.2 + noise()


def _interval(tally: Tally, column: str, row: dict, name: str, truth: float) -> None:
    low, high = (np.array([row[f"{name}_{end}"]]) for end in ("low", "high"))
    tally.interval(column, low, high, truth)
    tally.excludes_zero(column, low, high)


def _predicted(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Effects of n features, a few of them far larger than the rest, and what was measured."""
    x = generator.standard_normal(n) * np.exp(generator.standard_normal(n))
    return x, 0.8 * x + 0.5 * generator.standard_normal(n) * np.exp(
        0.5 * generator.standard_normal(n)
    )


@cache
def _truth() -> dict[str, float]:
    """The same of very many features."""
    x, y = _predicted(np.random.default_rng(1), 1_000_000)
    return {
        "slope": float(x @ y / (x @ x)),
        "sign_agreement": float((np.sign(x) == np.sign(y)).mean()),
        "relative_error": float(np.abs(x - y).sum() / np.abs(y).sum()),
    }


def fits(_: Layout, seed: int) -> Tally:
    """Five of `_fits`."""
    return _summed([_fits(5 * seed + i) for i in range(5)])


def _fits(seed: int) -> Tally:
    """`effect_agreements` over features drawn anew."""
    generator = np.random.default_rng([seed, 6])
    tally = Tally()
    for n in (12, 30, 60):
        found = agreement(*_predicted(generator, n))
        for name, truth in _truth().items():
            _, low, high = getattr(found, name)
            bounds = np.array([low]), np.array([high])
            tally.interval(f"effect_agreements.{name}", *bounds, truth)
            tally.excludes_zero(f"effect_agreements.{name}", *bounds)
    return tally


def resampled(layout: Layout, seed: int, is_planted: bool) -> Tally:
    """`resample_features`: texts permuted, and gradients rotated within windows with the means of
    windows and positions off."""
    kind = "plain" if seed % 2 else "profile"
    simulated = world(layout, seed, kind, is_planted, Effects(slope=0.0))
    places, some = simulated.places, slice(0, N_PLANTED)
    valid = places.valid
    z, g = simulated.z[valid, some], simulated.g[valid, some]
    text, place = places.text[valid], places.place[valid]
    what = POWER if is_planted else "null"
    tally = Tally()
    p = permute_texts(z, g, text, place, N_DRAWS, seed).p
    tally.add("resample_features.p_text", what, int(np.isfinite(p).sum()), int((p <= 0.05).sum()))
    window, position = places.window[valid], places.position[valid]
    p = shift_windows(z, _centred(g, window, position), window, text, N_DRAWS, seed).p
    tally.add("resample_features.p_shift", what, int(np.isfinite(p).sum()), int((p <= 0.05).sum()))
    return tally


def judges(layout: Layout, seed: int) -> Tally:
    """Judges who know nothing of a feature: each says yes more often of some texts than of others,
    and features are active more often in some texts."""
    draw = np.random.default_rng(seed)
    places = world(layout, seed).places
    of_text = places.text[places.valid]
    taste, rate = (draw.normal(size=(of_text.max() + 1, N_JUDGES)) for _ in range(2))
    bounds = np.full((N_JUDGES, 2), np.nan)
    for one in range(N_JUDGES):
        is_active = draw.random(len(of_text)) < 1 / (1 + np.exp(-rate[of_text, one]))
        picked = [
            draw.permutation(np.flatnonzero(is_active == kind))[:50] for kind in (True, False)
        ]
        contexts = np.concatenate(picked)
        text = of_text[contexts]
        said = draw.random(len(contexts)) < 1 / (1 + np.exp(-taste[text, one]))
        found = judged(is_active[contexts], said, text)
        if found.low is not None and found.high is not None:
            bounds[one] = found.low, found.high
    tally = Tally()
    tally.interval("explanation_scores.score", bounds[:, 0], bounds[:, 1], 0.5)
    return tally


def _centred(g: np.ndarray, window: np.ndarray, position: np.ndarray) -> np.ndarray:
    """g with the means of windows and positions off, by alternating projections."""
    for _ in range(30):
        for by in (window, position):
            sums = np.zeros((by.max() + 1, g.shape[1]))
            np.add.at(sums, by, g)
            g = g - (sums / np.maximum(np.bincount(by), 1)[:, None])[by]
    return g
