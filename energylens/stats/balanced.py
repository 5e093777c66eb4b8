"""How well a rule tells tokens that a feature is strong on from those it is silent on."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
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
