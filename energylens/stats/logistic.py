"""A linear probe: logistic regression on sparse codes, the more ridged the worse it generalises."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import optimize, sparse
from scipy.special import expit

PENALTIES = (1.0, 0.1, 0.01, 0.001)
"""Of half the squared weights, each weight in units of its column's root mean square."""
_MOST_STEPS = 200


@dataclass(frozen=True)
class Probe:
    """expit(codes @ weights + bias) is the probability of the class."""

    weights: Float[np.ndarray, " f"]
    bias: float
    penalty: float

    def score(self, codes: sparse.csr_array) -> Float[np.ndarray, " n"]:
        """The log odds at each row."""
        return np.asarray(codes @ self.weights) + self.bias


def fit_probe(
    codes: sparse.csr_array, is_class: Bool[np.ndarray, " n"], text: Int[np.ndarray, " n"]
) -> Probe:
    """The probe whose penalty foretells one half of the texts best from the other, fitted on
    both. Each class needs two texts."""
    half = halves(is_class.astype(int), text)
    losses = [
        sum(
            _loss(fit_at(codes[half == side], is_class[half == side], penalty), codes, is_class,
                  half != side)
            for side in (0, 1)
        )
        for penalty in PENALTIES
    ]  # fmt: skip
    return fit_at(codes, is_class, PENALTIES[int(np.argmin(losses))])


def fit_at(codes: sparse.csr_array, is_class: Bool[np.ndarray, " n"], penalty: float) -> Probe:
    """Least mean log loss + penalty / 2 times the squared weights of columns of unit size; the
    bias is free."""
    n = len(is_class)
    size = np.sqrt(np.asarray(codes.multiply(codes).sum(axis=0)).ravel() / n)
    scale = 1 / np.where(size > 0, size, 1.0)
    scaled = sparse.csr_array(codes @ sparse.diags_array(scale))
    sign = np.where(is_class, 1.0, -1.0)

    def loss(at: Float[np.ndarray, " width"]) -> tuple[float, Float[np.ndarray, " width"]]:
        w, bias = at[:-1], at[-1]
        margin = sign * (scaled @ w + bias)
        pull = -sign * expit(-margin) / n
        value = float(np.logaddexp(0, -margin).mean() + 0.5 * penalty * (w @ w))
        return value, np.append(scaled.T @ pull + penalty * w, pull.sum())

    rate = np.clip(is_class.mean(), 0.5 / n, 1 - 0.5 / n)
    start = np.append(np.zeros(len(size)), np.log(rate / (1 - rate)))
    options = {"maxiter": _MOST_STEPS}
    found = optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    return Probe(found.x[:-1] * scale, float(found.x[-1]), penalty)


def _loss(
    probe: Probe, codes: sparse.csr_array, is_class: Bool[np.ndarray, " n"],
    chosen: Bool[np.ndarray, " n"],
) -> float:  # fmt: skip
    sign = np.where(is_class[chosen], 1.0, -1.0)
    return float(np.logaddexp(0, -sign * probe.score(codes[chosen])).sum())


def halves(kind: Int[np.ndarray, " n"], text: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """0 or 1 at each row: the texts of each kind take turns, in the order of their numbers, so
    that a corpus in which kinds alternate is halved as well as one in which they follow."""
    half = np.zeros(len(text), dtype=int)
    for one in np.unique(kind):
        chosen = kind == one
        _, index = np.unique(text[chosen], return_inverse=True)
        half[chosen] = index % 2
    return half
