"""Tests of EFAS by resampling, for a few features at a time; they need g at every token.

They confirm the cluster-robust default, or show what a plainer test would have said.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats


@dataclass(frozen=True)
class Resampled:
    """One test of k features."""

    statistic: Float[np.ndarray, " k"]
    """Correlation of z and g over the tokens the test can use; NaN where one is constant."""
    p: Float[np.ndarray, " k"]
    """(1 + draws at least as far from the null's mean) / (1 + draws)."""
    n_windows: int
    """Windows the test can move."""


def spearman(z: Float[np.ndarray, "n k"], g: Float[np.ndarray, "n k"]) -> Float[np.ndarray, " k"]:
    """Spearman's rank correlation of each feature; NaN where z or g is constant."""
    ranks = [stats.rankdata(values, axis=0) for values in (z, g)]
    return correlation(ranks[0], ranks[1])


def permute_windows(
    z: Float[np.ndarray, "n k"],
    g: Float[np.ndarray, "n k"],
    window: Int[np.ndarray, " n"],
    position: Int[np.ndarray, " n"],
    n_draws: int,
    seed: int = 0,
) -> Resampled:
    """Give each window the gradients of another: keeps position profiles and autocorrelation.

    Only windows with the same valid positions are exchanged; those that match no other are left
    out. Tokens come window by window.
    """
    groups = _alike(window, position)
    rows = [np.stack(group) for group in groups if len(group) > 1]
    if not rows:
        nothing = np.full(z.shape[1], np.nan)
        return Resampled(nothing, nothing, 0)
    used = np.concatenate([group.ravel() for group in rows])
    generator = np.random.default_rng(seed)

    def draw() -> Int[np.ndarray, " m"]:
        return np.concatenate([generator.permutation(group, axis=0).ravel() for group in rows])

    n_windows = sum(len(group) for group in rows)
    return _resample(z[used], g, used, draw, n_draws, n_windows)


def shift_windows(
    z: Float[np.ndarray, "n k"],
    g: Float[np.ndarray, "n k"],
    window: Int[np.ndarray, " n"],
    n_draws: int,
    seed: int = 0,
) -> Resampled:
    """Rotate the gradients within each window by a random number of tokens: keeps autocorrelation,
    but not a profile over positions. Tokens come window by window."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(window) != 0]))
    lengths = np.diff(np.concatenate([starts, [len(window)]]))
    begin, size = np.repeat(starts, lengths), np.repeat(lengths, lengths)
    place = np.arange(len(window)) - begin
    generator = np.random.default_rng(seed)

    def draw() -> Int[np.ndarray, " n"]:
        offsets = np.repeat(generator.integers(0, lengths), lengths)
        return begin + (place + offsets) % size

    return _resample(z, g, np.arange(len(window)), draw, n_draws, len(starts))


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
    n_windows: int,
) -> Resampled:
    """Moving rows of g changes neither mean nor variance, so sum z g stands for the correlation."""
    observed = (z * g[identity]).sum(axis=0)
    drawn = np.stack([(z * g[draw()]).sum(axis=0) for _ in range(n_draws)])
    centre = drawn.mean(axis=0)
    far = np.abs(drawn - centre) >= np.abs(observed - centre) * (1 - 1e-9)
    statistic = correlation(z, g[identity])
    p = (1 + far.sum(axis=0)) / (1 + n_draws)
    return Resampled(statistic, np.where(np.isnan(statistic), np.nan, p), n_windows)


def _alike(
    window: Int[np.ndarray, " n"], position: Int[np.ndarray, " n"]
) -> list[list[Int[np.ndarray, " t"]]]:
    """Rows of each window, windows with the same positions together."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(window) != 0]))
    groups: dict[bytes, list[Int[np.ndarray, " t"]]] = {}
    for rows in np.split(np.arange(len(window)), starts[1:]):
        groups.setdefault(position[rows].tobytes(), []).append(rows)
    return list(groups.values())
