"""Tests of EFAS by resampling, for a few features at a time; they need g at every token.

They confirm the cluster-robust default, or show what a plainer test would have said.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from energylens.stats.clusters import MIN_TEXTS


@dataclass(frozen=True)
class Resampled:
    """One test of k features."""

    statistic: Float[np.ndarray, " k"]
    """Correlation of z and g over the tokens the test can use; NaN where one is constant."""
    p: Float[np.ndarray, " k"]
    """(1 + draws at least as far from the null's mean) / (1 + draws)."""
    n_texts: int
    """Texts the test can move."""


def spearman(z: Float[np.ndarray, "n k"], g: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """Spearman's rank correlation of each feature; NaN where z or g is constant."""
    ranks = [stats.rankdata(values, axis=0) for values in (z, g)]
    return correlation(ranks[0], ranks[1])


def permute_texts(
    z: Float[np.ndarray, "n k"],
    g: Float[np.ndarray, "n k"],
    text: Int[np.ndarray, " n"],
    place: Int[np.ndarray, " n"],
    n_draws: int,
    seed: int = 0,
) -> Resampled:
    """Give each text the gradients of another: keeps profiles over places and autocorrelation.

    Only texts with the same valid places are exchanged; those that match no other are left out,
    and fewer than MIN_TEXTS that can be moved are no test. Tokens come text by text.
    """
    groups = _alike(text, place)
    rows = [np.stack(group) for group in groups if len(group) > 1]
    n_texts = sum(len(group) for group in rows)
    if n_texts < MIN_TEXTS:
        return Resampled(np.full(z.shape[1], np.nan), np.full(z.shape[1], np.nan), n_texts)
    used = np.concatenate([group.ravel() for group in rows])
    generator = np.random.default_rng(seed)

    def draw() -> Int[np.ndarray, " m"]:
        return np.concatenate([generator.permutation(group, axis=0).ravel() for group in rows])

    return _resample(z[used], g, used, draw, n_draws, n_texts)


def shift_windows(
    z: Float[np.ndarray, "n k"],
    g: Float[np.ndarray, "n k"],
    window: Int[np.ndarray, " n"],
    text: Int[np.ndarray, " n"],
    n_draws: int,
    seed: int = 0,
) -> Resampled:
    """Rotate the gradients within each window by a random number of tokens: keeps autocorrelation
    and what texts differ in, but not a profile over positions, which g must be rid of before.
    Tokens come window by window; fewer than MIN_TEXTS texts are no test."""
    n_texts = len(np.unique(text))
    if n_texts < MIN_TEXTS:
        return Resampled(np.full(z.shape[1], np.nan), np.full(z.shape[1], np.nan), n_texts)
    starts = np.flatnonzero(np.concatenate([[True], np.diff(window) != 0]))
    lengths = np.diff(np.concatenate([starts, [len(window)]]))
    begin, size = np.repeat(starts, lengths), np.repeat(lengths, lengths)
    place = np.arange(len(window)) - begin
    generator = np.random.default_rng(seed)

    def draw() -> Int[np.ndarray, " n"]:
        offsets = np.repeat(generator.integers(0, lengths), lengths)
        return begin + (place + offsets) % size

    return _resample(z, g, np.arange(len(window)), draw, n_draws, n_texts)


def correlation(
    x: Float[np.ndarray, "n k"], y: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, " k"]:
    """Pearson correlation column by column; NaN where one is constant."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    norms = np.sqrt(np.square(x).sum(axis=0) * np.square(y).sum(axis=0))
    return np.where(norms > 0, (x * y).sum(axis=0) / np.where(norms > 0, norms, 1.0), np.nan)


def _resample(
    z: Float[np.ndarray, "m k"],
    g: Float[np.ndarray, "n k"],
    identity: Int[np.ndarray, " m"],
    draw: Callable[[], Int[np.ndarray, " m"]],
    n_draws: int,
    n_texts: int,
) -> Resampled:
    """Moving rows of g changes neither mean nor variance, so sum z g stands for the correlation."""
    observed = (z * g[identity]).sum(axis=0)
    drawn = np.stack([(z * g[draw()]).sum(axis=0) for _ in range(n_draws)])
    centre = drawn.mean(axis=0)
    far = np.abs(drawn - centre) >= np.abs(observed - centre) * (1 - 1e-9)
    statistic = correlation(z, g[identity])
    p = (1 + far.sum(axis=0)) / (1 + n_draws)
    return Resampled(statistic, np.where(np.isnan(statistic), np.nan, p), n_texts)


def _alike(
    text: Int[np.ndarray, " n"], place: Int[np.ndarray, " n"]
) -> list[list[Int[np.ndarray, " t"]]]:
    """Rows of each text, texts with the same places together."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(text) != 0]))
    groups: dict[bytes, list[Int[np.ndarray, " t"]]] = {}
    for rows in np.split(np.arange(len(text)), starts[1:]):
        groups.setdefault(place[rows].tobytes(), []).append(rows)
    return list(groups.values())
