"""How well a rule tells tokens that a feature is strong on from those it is silent on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

LEAST_TEXTS = 10
"""Texts of equal size below which there is no test."""


@dataclass(frozen=True)
class Balanced:
    """Balanced accuracies with their tests; NaN where texts are too few."""

    accuracy: Float[np.ndarray, " F"]
    low: Float[np.ndarray, " F"]
    high: Float[np.ndarray, " F"]
    p: Float[np.ndarray, " F"]


def balanced_accuracy(
    recall: Float[np.ndarray, " F"],
    false_positive_rate: Float[np.ndarray, " F"],
    spread: Float[np.ndarray, " F"],
    n_equal: Float[np.ndarray, " F"],
) -> Balanced:
    """(1 + recall - false_positive_rate) / 2, its 95 % interval, and the one-sided p of 1/2.

    `spread` is the sum over texts of the squares of what the difference changes by when they are
    left out (the jackknife; Efron and Tibshirani 1993, chapter 11), `n_equal` how many texts of
    equal size there would be: Student's t has as many degrees of freedom less one. Where texts do
    not differ, three more are taken to show one difference, and no p is smaller than that of a sign
    test over the texts.
    """
    difference = recall - false_positive_rate
    is_tested = (n_equal >= LEAST_TEXTS) & np.isfinite(difference) & np.isfinite(spread)
    n = np.where(is_tested, n_equal, np.nan)
    error = np.maximum(np.sqrt(spread * (n - 1) / n), 1 / (n + 3))
    p = np.maximum(stats.t.sf(difference / error, n - 1), 0.5**n)
    reach = stats.t.ppf(0.975, n - 1) * error / 2
    accuracy = (1 + difference) / 2
    low, high = np.clip(accuracy - reach, 0, 1), np.clip(accuracy + reach, 0, 1)
    return Balanced(accuracy, low, high, p)


@dataclass(frozen=True)
class Judged:
    """How well a judge tells contexts apart; None where texts are too few for bounds."""

    accuracy: float | None
    """Balanced accuracy, chance one half; None where one of the two kinds is missing."""
    low: float | None
    high: float | None


def judged(
    is_active: Bool[np.ndarray, " n"], said: Bool[np.ndarray, " n"], text: Int[np.ndarray, " n"]
) -> Judged:
    """Balanced accuracy of a judge who `said` of contexts of some texts whether a feature is
    active there, with its 95 % interval; texts are the units, as in `balanced_accuracy`."""
    _, unit = np.unique(text, return_inverse=True)
    active, found, silent, wrong = (
        np.bincount(unit, weights=mask.astype(float))
        for mask in (is_active, is_active & said, ~is_active, ~is_active & said)
    )
    if not active.sum() or not silent.sum():
        return Judged(None, None, None)
    recall, false_positives = found.sum() / active.sum(), wrong.sum() / silent.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        change = (found - recall * active) / (active.sum() - active)
        change = change - (wrong - false_positives * silent) / (silent.sum() - silent)
    n_equal = min(kind.sum() ** 2 / (kind**2).sum() for kind in (active, silent))
    spread = np.square(change).sum()
    one = balanced_accuracy(*(np.array([x]) for x in (recall, false_positives, spread, n_equal)))
    low, high = float(one.low[0]), float(one.high[0])
    return Judged(
        accuracy=float(one.accuracy[0]),
        low=None if np.isnan(low) else low,
        high=None if np.isnan(high) else high,
    )
