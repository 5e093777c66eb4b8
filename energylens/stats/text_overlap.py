"""Do two features share more texts than their own texts and lengths give?

A long text holds more of everything, so that features which know nothing of each other share long
texts. Texts are sorted into strata of like length; the null deals the texts of each feature anew
within each stratum, so that the shared texts are a sum of hypergeometrics. It takes each feature's
texts as they are, however bursty it is, and no model of how presence grows with length.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse, special, stats

MOST_STRATA = 64
"""What is left of length within a stratum shrinks with the square of their number: 64 keep a
million texts honest."""
TEXTS_A_STRATUM = 10
LEAST_TEXTS = 2 * TEXTS_A_STRATUM
"""Fewer texts make one stratum, and length could not be told from the features: no test."""
_EXACT_UP_TO = 64
"""Pairs whose rarer feature is in no more texts are convolved; beyond, the saddlepoint is within
5 % down to 1e-3 and, where strata hold a text or two of a feature, a fifth too small at 1e-7."""
_EXACT_TEXTS = 512
"""With no more texts all pairs are."""
_NUMBERS = 1 << 20
_FARTHEST = 30.0


@dataclass(frozen=True)
class Strata:
    """Texts in strata of like length."""

    of_text: Int[np.ndarray, " n_texts"]
    sizes: Int[np.ndarray, " s"]
    counts: Float[np.ndarray, "F s"]
    """Texts of each stratum that a feature is active in."""


def strata_of(n_tokens: Int[np.ndarray, " n_texts"]) -> Int[np.ndarray, " n_texts"]:
    """The stratum of each text by its tokens, 0 the shortest; ties by the texts' order. They hold
    TEXTS_A_STRATUM texts or more, and there are MOST_STRATA at most."""
    n = len(n_tokens)
    n_strata = int(np.clip(n // TEXTS_A_STRATUM, 1, MOST_STRATA))
    found = np.empty(n, dtype=np.int64)
    found[np.argsort(n_tokens, kind="stable")] = np.arange(n) * n_strata // max(n, 1)
    return found


def stratum_counts(
    of_text: Int[np.ndarray, " n_texts"], n_strata: int, present: sparse.csr_matrix
) -> Float[np.ndarray, "F s"]:
    """Texts of each stratum that a feature is active in, from a matrix [texts, features] that is 1
    where one is; counts of some texts and of others add up."""
    n = len(of_text)
    pool = sparse.csr_matrix((np.ones(n), (of_text, np.arange(n))), (n_strata, n))
    return sparse.csr_matrix(pool @ present).toarray().T


def expected_shared(strata: Strata, first: int, end: int) -> Float[np.ndarray, "m F"]:
    """Texts that features first to end share with every feature by chance and length."""
    return (strata.counts[first:end] / strata.sizes) @ strata.counts.T


def spread_within(strata: Strata) -> Float[np.ndarray, " F"]:
    """Sum of squares of each feature's presence with the strata's means taken off."""
    return (strata.counts * (1 - strata.counts / strata.sizes)).sum(axis=1)


def p_shared(
    n_both: Float[np.ndarray, " m"],
    a: Int[np.ndarray, " m"],
    b: Int[np.ndarray, " m"],
    strata: Strata,
) -> Float[np.ndarray, " m"]:
    """One-sided p of sharing n_both texts or more, of m pairs of features a and b; each pair is
    worked out once."""
    n_features = len(strata.counts)
    pair = np.minimum(a, b).astype(np.int64) * n_features + np.maximum(a, b)
    _, first, place = np.unique(pair, return_index=True, return_inverse=True)
    k, one, other = n_both[first], a[first], b[first]
    n_of = strata.counts.sum(axis=1)
    rarer = np.minimum(n_of[one], n_of[other]).astype(np.int64)
    is_exact = (rarer <= _EXACT_UP_TO) | (len(strata.of_text) <= _EXACT_TEXTS)
    p = np.ones(len(k))
    for chosen, solve, width in (
        (is_exact, _convolved, rarer + 1),
        (~is_exact, _saddlepoint, np.full(len(k), len(strata.sizes))),
    ):
        for rows in _parts(np.flatnonzero(chosen), width):
            p[rows] = solve(k[rows], strata.counts[one[rows]], strata.counts[other[rows]], strata)
    return np.clip(p, 0.0, 1.0)[place]


def _parts(rows: Int[np.ndarray, " n"], width: Int[np.ndarray, " m"]) -> list[np.ndarray]:
    """Rows of like width together, few enough to be held at once."""
    rows = rows[np.argsort(width[rows], kind="stable")]
    bounds = np.cumsum(width[rows]) // _NUMBERS
    return [part for part in np.split(rows, np.flatnonzero(np.diff(bounds)) + 1) if len(part)]


def _convolved(
    k: Float[np.ndarray, " p"],
    a: Float[np.ndarray, "p s"],
    b: Float[np.ndarray, "p s"],
    strata: Strata,
) -> Float[np.ndarray, " p"]:
    """The tail, by convolving the hypergeometrics of the strata."""
    most = int(np.minimum(a, b).sum(axis=1).max(initial=0))
    pmf = np.zeros((len(k), most + 1))
    pmf[:, 0] = 1.0
    log_factorial = special.gammaln(np.arange(strata.sizes.max() + 1) + 1.0)
    reached = 0
    for s, n in enumerate(strata.sizes):
        own = _hypergeometric(a[:, s].astype(int), b[:, s].astype(int), int(n), log_factorial)
        grown = min(reached + own.shape[1] - 1, most)
        new = np.zeros_like(pmf)
        for i in range(own.shape[1]):
            upto = min(reached, most - i)
            new[:, i : i + upto + 1] += own[:, i, None] * pmf[:, : upto + 1]
        pmf, reached = new, grown
    return np.where(np.arange(most + 1) >= k[:, None], pmf, 0.0).sum(axis=1)


def _hypergeometric(
    a: Int[np.ndarray, " p"],
    b: Int[np.ndarray, " p"],
    n: int,
    log_factorial: Float[np.ndarray, " m"],
) -> Float[np.ndarray, "p w"]:
    """P(X = 0, 1, ...) for a and b texts of n."""
    x = np.arange(int(np.minimum(a, b).max(initial=0)) + 1)
    cells = (x, a[:, None] - x, b[:, None] - x, (n - a - b)[:, None] + x)
    possible = (cells[1] >= 0) & (cells[2] >= 0) & (cells[3] >= 0)
    f = log_factorial
    whole = f[a] + f[n - a] + f[b] + f[n - b] - f[n]
    parts = sum(f[np.where(possible, cell, 0)] for cell in cells)
    return np.where(possible, np.exp(whole[:, None] - parts), 0.0)


def _saddlepoint(
    k: Float[np.ndarray, " p"],
    a: Float[np.ndarray, "p s"],
    b: Float[np.ndarray, "p s"],
    strata: Strata,
) -> Float[np.ndarray, " p"]:
    """The tail by Lugannani and Rice (1980) in Daniels' form for lattices (1987, 3.3).

    A stratum's cumulants are those of Cornfield's approximation (1956) to the non-central
    hypergeometric, stretched so that mean and variance are exact. Where all that can be shared is
    nearly shared, Chernoff's bound stands instead, which is too large.
    """
    n = strata.sizes.astype(np.float64)
    stretch = n / np.maximum(n - 1, 1)
    low, high = np.full(len(k), -_FARTHEST), np.full(len(k), _FARTHEST)
    for _ in range(34):
        t = (low + high) / 2
        is_low = _tilted(t, a, b, n, stretch).sum(axis=1) < k
        low, high = np.where(is_low, t, low), np.where(is_low, high, t)
    t = (low + high) / 2
    x = _tilted(t, a, b, n, stretch)
    cells = (x, a - x, b - x, n - a - b + x)
    alone = (a * b, a * (n - b), b * (n - a), (n - a) * (n - b))
    distance = sum(
        special.rel_entr(np.where(e > 0, np.maximum(c, 0), 0), e / n)
        for c, e in zip(cells, alone, strict=True)
    )
    cumulant = ((stretch * t[:, None] * x - distance) / stretch).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = (stretch / sum(1 / np.maximum(c, 1e-300) for c in cells)).sum(axis=1)
        r = np.sign(t) * np.sqrt(2 * np.maximum(t * k - cumulant, 0))
        u = (1 - np.exp(-t)) * np.sqrt(spread)
        tail = stats.norm.sf(r) + stats.norm.pdf(r) * (1 / u - 1 / r)
        plain = stats.norm.sf((k - 0.5 - x.sum(axis=1)) / np.sqrt(spread))
    bound = np.exp(-np.maximum(t * k - cumulant, 0))
    found = np.where(np.abs(t) > _FARTHEST / 2, np.where(t > 0, bound, 1.0), tail)
    return np.where(np.abs(r) < 1e-3, plain, found)


def _tilted(
    t: Float[np.ndarray, " p"],
    a: Float[np.ndarray, "p s"],
    b: Float[np.ndarray, "p s"],
    n: Float[np.ndarray, " s"],
    stretch: Float[np.ndarray, " s"],
) -> Float[np.ndarray, "p s"]:
    """Mean of each stratum's shared texts when its odds are tilted by t: the root of
    x (n - a - b + x) = e^t (a - x)(b - x)."""
    theta = np.exp(stretch * t[:, None])
    q = theta * (a + b) + n - a - b
    root = np.sqrt(np.maximum(q * q - 4 * theta * (theta - 1) * a * b, 0))
    return 2 * theta * a * b / np.maximum(q + root, 1e-300)
