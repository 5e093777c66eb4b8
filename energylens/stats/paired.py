"""Two samples held against each other: texts in pairs where both read the same ones, else apart."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from energylens.stats.clusters import MIN_TEXTS


@dataclass(frozen=True)
class Difference:
    """Second less first; NaN where there are fewer than MIN_TEXTS texts, or no spread."""

    value: float
    low: float
    high: float
    p: float


def difference_of_means(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " m"], is_paired: bool
) -> Difference:
    """Student's t of paired differences, or Welch's of two samples, one value a text."""
    n, m = len(x), len(y)
    if not min(n, m):
        return Difference(np.nan, np.nan, np.nan, np.nan)
    middle = float((y - x).mean() if is_paired else y.mean() - x.mean())
    if min(n, m) < MIN_TEXTS:
        return Difference(middle, np.nan, np.nan, np.nan)
    if is_paired:
        error, df = float((y - x).std(ddof=1) / np.sqrt(n)), n - 1.0
    else:
        vx, vy = (np.asarray(v.var(ddof=1) / len(v)) for v in (x, y))
        error, df = float(np.sqrt(vx + vy)), float(welch_degrees(vx, vy, float(n), float(m)))
    reach = float(stats.t.ppf(0.975, df)) * error
    p = 2 * float(stats.t.sf(abs(middle) / error, df)) if error > 0 else np.nan
    return Difference(middle, middle - reach, middle + reach, p)


def welch_degrees(
    vx: Float[np.ndarray, " *f"],
    vy: Float[np.ndarray, " *f"],
    n: Float[np.ndarray, " *#f"] | float,
    m: Float[np.ndarray, " *#f"] | float,
) -> Float[np.ndarray, " *f"]:
    """Degrees of freedom of a difference, from the variances of both means (Welch, 1947)."""
    spread = vx**2 / (np.asarray(n) - 1) + vy**2 / (np.asarray(m) - 1)
    return np.where(spread > 0, (vx + vy) ** 2 / np.where(spread > 0, spread, 1.0), 1.0)


def paired_groups(
    first: Float[np.ndarray, "f g"], second: Float[np.ndarray, "f g"]
) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Difference of two sums, its t and p, from what the same groups of texts add to either."""
    d = second - first
    n = d.shape[1]
    total = d.sum(axis=1)
    if n < MIN_TEXTS:
        return total, np.full(len(d), np.nan), np.full(len(d), np.nan)
    error = d.std(axis=1, ddof=1) * np.sqrt(n)
    t = total / np.where(error > 1e-12, error, np.nan)
    return total, t, 2 * stats.t.sf(np.abs(t), n - 1)


def mcnemar(first: Bool[np.ndarray, " n"], second: Bool[np.ndarray, " n"]) -> float:
    """Exact two-sided p that as many texts change from yes to no as back; NaN where none does."""
    changed = int((first != second).sum())
    if not changed:
        return float("nan")
    return float(stats.binomtest(int((first & ~second).sum()), changed, 0.5).pvalue)


def fisher(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Exact two-sided p of two shares (yes, of all) of different texts."""
    (a, n), (b, m) = first, second
    return float(np.asarray(stats.fisher_exact([[a, n - a], [b, m - b]]))[1])


@dataclass(frozen=True)
class RateSums:
    """Sums over texts of a feature's rate in them, silent texts 0, in two runs."""

    n: Float[np.ndarray, " f"]
    m: Float[np.ndarray, " f"]
    """Texts of either run."""
    k: Int[np.ndarray, " f"]
    """Texts whose rate differs, or that are active in either run where texts are no pairs."""
    s: Float[np.ndarray, " f"]
    ss: Float[np.ndarray, " f"]
    t: Float[np.ndarray, " f"]
    tt: Float[np.ndarray, " f"]
    d: Float[np.ndarray, " f"]
    dd: Float[np.ndarray, " f"]


def difference_of_rates(
    sums: RateSums, is_paired: bool
) -> tuple[Float[np.ndarray, " f"], Float[np.ndarray, " f"], Float[np.ndarray, " f"]]:
    """Second mean rate less first, t and p; no test of a feature that fewer than MIN_TEXTS texts
    tell of."""
    n, m = sums.n, sums.m
    with np.errstate(divide="ignore", invalid="ignore"):
        if is_paired:
            middle = sums.d / n
            error = np.sqrt(np.maximum(sums.dd / n - middle**2, 0) / (n - 1))
            df = sums.k - 1.0
        else:
            vx = np.maximum(sums.ss / n - (sums.s / n) ** 2, 0) / (n - 1)
            vy = np.maximum(sums.tt / m - (sums.t / m) ** 2, 0) / (m - 1)
            middle, error = sums.t / m - sums.s / n, np.sqrt(vx + vy)
            df = np.minimum(welch_degrees(vx, vy, n, m), sums.k - 1.0)
        tested = (error > 1e-12) & (sums.k >= MIN_TEXTS)
        t = np.where(tested, middle / error, np.nan)
    return middle, t, 2 * stats.t.sf(np.abs(t), np.where(tested, df, np.nan))
