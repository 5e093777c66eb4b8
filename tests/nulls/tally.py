"""What is counted over simulated runs: tests and rejections, intervals and those that hold the
truth. Runs are independent, tests of one run are not: errors are taken over runs."""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import polars as pl

LEVEL = 0.05
NULL, POWER, COVER, FALSE = "null", "power", "cover", "false"
"""Rejections without a signal; of what was planted; intervals that hold the truth; discoveries
(q < 0.05) that are none, where some are."""


@dataclass
class Tally:
    """Counts of one run: (of how many, how many) by column and by what is counted."""

    counts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))

    def add(self, column: str, what: str, n: int, hits: int) -> None:
        if n:
            counts = self.counts[f"{column}|{what}"]
            counts[0] += n
            counts[1] += hits

    def p(self, column: str, values: pl.Series, what: str = NULL) -> None:
        """p-values, those that are NULL left out."""
        known = values.drop_nulls().to_numpy()
        if (known <= 0).any():
            raise AssertionError(f"{column}: a p of 0 says what no data can")
        self.add(column, what, len(known), int((known <= LEVEL).sum()))

    def any(self, column: str, values: pl.Series) -> None:
        """A family without a signal: it counts as one, and as wrong with a single discovery."""
        known = values.drop_nulls().to_numpy()
        self.add(column, NULL, min(len(known), 1), int((known < LEVEL).any()))

    def discoveries(self, column: str, values: pl.Series, is_planted: pl.Series) -> None:
        """A family with planted signal: how much of it is found, and how many others are."""
        found = (values < LEVEL).fill_null(False)
        tested = is_planted & values.is_not_null()
        self.add(column, POWER, int(tested.sum()), int((found & is_planted).sum()))
        self.add(column, FALSE, int(found.sum()), int((found & ~is_planted).sum()))

    def interval(
        self, column: str, low: np.ndarray, high: np.ndarray, truth: np.ndarray | float
    ) -> None:
        """Intervals, those without bounds left out."""
        known = np.isfinite(low) & np.isfinite(high)
        holds = known & (low <= truth) & (truth <= high)
        self.add(column, COVER, int(known.sum()), int(holds.sum()))

    def excludes_zero(self, column: str, low: np.ndarray, high: np.ndarray) -> None:
        """Intervals of what is not zero, that say so."""
        known = np.isfinite(low) & np.isfinite(high)
        self.add(column, POWER, int(known.sum()), int((known & ((low > 0) | (high < 0))).sum()))


@dataclass(frozen=True)
class Rate:
    """A share over runs, and its standard error with runs as units."""

    n: int
    n_runs: int
    share: float
    error: float

    @staticmethod
    def of(runs: list[list[int]]) -> "Rate":
        n, hits = np.array(runs, dtype=float).T
        share = hits.sum() / n.sum()
        rest = hits - share * n
        k = len(runs)
        error = np.sqrt((rest**2).sum() * k / max(k - 1, 1)) / n.sum()
        if not hits.sum() or hits.sum() == n.sum():  # no spread seen: three runs more would be one
            error = 1.0 / (k + 3)
        return Rate(int(n.sum()), k, float(share), float(error))
