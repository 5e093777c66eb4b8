"""The probe against Newton's method on dense arrays, and its halves by hand."""

import numpy as np
import pytest
from scipy import sparse

from energylens.stats.logistic import PENALTIES, Probe, fit_at, fit_probe, halves

Drawn = tuple[np.ndarray, np.ndarray, np.ndarray]


def drawn(n_texts: int = 60, width: int = 12, seed: int = 0, signal: float = 2.0) -> Drawn:
    """Sparse codes of several scales, a class of texts that two of them go with, and the texts."""
    generator = np.random.default_rng(seed)
    text = np.repeat(np.arange(n_texts), 10)
    is_class = text % 3 == 0
    codes = generator.exponential(size=(len(text), width)) * (generator.random(
        (len(text), width)) < 0.3)  # fmt: skip
    codes[:, :2] += signal * is_class[:, None] * generator.random((len(text), 2))
    return codes * 10.0 ** np.arange(-3, width - 3).clip(-3, 3), is_class, text


def by_newton(x: np.ndarray, is_class: np.ndarray, penalty: float) -> tuple[np.ndarray, float]:
    """The same minimum, in units of the columns, by Newton's method."""
    size = np.sqrt((x**2).mean(axis=0))
    scaled = np.column_stack([x / size, np.ones(len(x))])
    ridge = np.diag([penalty] * x.shape[1] + [0.0])
    at = np.zeros(scaled.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-scaled @ at))
        gradient = scaled.T @ (p - is_class) / len(x) + ridge @ at
        curvature = (scaled * (p * (1 - p))[:, None]).T @ scaled / len(x) + ridge
        at -= np.linalg.solve(curvature, gradient)
    return at[:-1] / size, float(at[-1])


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_probe_is_the_minimum_that_newton_finds(penalty: float) -> None:
    x, is_class, _ = drawn()
    found = fit_at(sparse.csr_array(x), is_class, penalty)
    weights, bias = by_newton(x, is_class, penalty)
    expected = x @ weights + bias
    np.testing.assert_allclose(found.score(sparse.csr_array(x)), expected, rtol=0, atol=2e-2)


def test_a_feature_that_is_never_active_has_no_weight() -> None:
    x, is_class, text = drawn()
    x[:, 5] = 0
    assert fit_probe(sparse.csr_array(x), is_class, text).weights[5] == 0


def test_the_more_there_is_to_learn_the_smaller_the_penalty() -> None:
    loud, is_class, text = drawn(signal=6.0)
    noise = np.random.default_rng(1).permutation(loud)
    found = [fit_probe(sparse.csr_array(x), is_class, text).penalty for x in (loud, noise)]
    assert found[0] < found[1] == max(PENALTIES)


def test_a_score_is_linear() -> None:
    probe = Probe(np.array([1.0, -2.0]), 0.5, 1.0)
    np.testing.assert_allclose(probe.score(sparse.csr_array([[1.0, 0.0], [2.0, 3.0]])), [1.5, -3.5])


@pytest.mark.parametrize("kinds", [[0, 1, 0, 1, 0, 1], [0, 0, 0, 1, 1, 1]])
def test_texts_of_a_kind_take_turns(kinds: list[int]) -> None:
    text = np.repeat(np.arange(6), 2)
    half = halves(np.repeat(kinds, 2), text)
    for kind in (0, 1):
        rows = half[np.repeat(kinds, 2) == kind]
        assert rows.tolist() == [0, 0, 1, 1, 0, 0]
