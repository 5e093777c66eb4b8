"""Intervals for figures over tokens that come in texts: tokens of one text are no independent
draws, nor are its contexts; texts nearly are."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

N_GROUPS = 20
MIN_TEXTS = 10
"""Texts that a test or an interval needs; with fewer there is none: scores of a text are skewed and
differ in size, and a t of so few is not to be trusted."""
MIN_ALIKE = 20
"""Texts of equal size that the interval of a mean must be worth (Kish, 1965): with fewer, means of
skewed numbers missed theirs in up to 14 of 100 simulations."""


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval; NaN where it is not defined."""

    value: float
    low: float
    high: float


def clustered_mean(values: Float[np.ndarray, " n"], text: Int[np.ndarray, " n"]) -> Interval:
    """Mean over tokens, its standard error by leaving out one text at a time (CR3; MacKinnon and
    White, 1985), and Student's t over as many texts as there would be of equal size."""
    if not len(values):
        return Interval(np.nan, np.nan, np.nan)
    _, index = np.unique(text, return_inverse=True)
    counts, mean, size = np.bincount(index), float(values.mean()), len(values)
    alike = size**2 / float(np.square(counts, dtype=np.float64).sum())
    if alike < MIN_ALIKE:
        return Interval(mean, np.nan, np.nan)
    n = len(counts)
    rest = (np.bincount(index, values) - mean * counts) / (1 - counts / size)
    error = np.sqrt(np.square(rest).sum() * (n - 1) / n) / size
    return _around(mean, float(error), alike - 1)


def jackknife(
    of: Callable[[Bool[np.ndarray, " n"]], Float[np.ndarray, " m"]],
    text: Int[np.ndarray, " n"],
) -> list[Interval]:
    """Intervals of m smooth figures of a sample by leaving out groups of texts, one at a time
    (Shao and Tu, 1995, 2.3). `of` computes them from the tokens it is told to keep."""
    group, n_groups = groups_of(text)
    whole = of(np.ones(len(text), dtype=bool))
    if n_groups < MIN_TEXTS:
        return [Interval(float(v), np.nan, np.nan) for v in whole]
    left = np.array([of(group != g) for g in range(n_groups)])
    return [delete_a_group(float(v), left[:, i]) for i, v in enumerate(whole)]


def groups_of(text: Int[np.ndarray, " n"]) -> tuple[Int[np.ndarray, " n"], int]:
    """Which group of texts each token is in, from 0, and how many there are: N_GROUPS at most."""
    texts, index = np.unique(text, return_inverse=True)
    n_groups = min(N_GROUPS, len(texts))
    return index * n_groups // max(len(texts), 1), n_groups


def delete_a_group(whole: float, left: Float[np.ndarray, " n_groups"]) -> Interval:
    """The interval of a figure from its values with each group left out."""
    n = len(left)
    error = np.sqrt((n - 1) / n * np.square(left - left.mean()).sum())
    return _around(whole, float(error), n - 1.0)


def _around(value: float, error: float, degrees: float) -> Interval:
    reach = float(stats.t.ppf(0.975, degrees)) * error
    return Interval(value, value - reach, value + reach)
