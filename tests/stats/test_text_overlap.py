"""Shared texts within strata of length, against scipy's hypergeometric convolved by hand."""

import numpy as np
import pytest
from scipy import sparse, stats

from energylens.stats.text_overlap import (
    Strata,
    expected_shared,
    p_shared,
    spread_within,
    strata_of,
    stratum_counts,
)


def stratified(on: np.ndarray, lengths: np.ndarray) -> Strata:
    """Texts in strata, counted a part of them at a time."""
    of_text = strata_of(lengths)
    sizes = np.bincount(of_text)
    parts = [
        stratum_counts(of_text[part], len(sizes), sparse.csr_matrix(on[part].astype(np.float32)))
        for part in (slice(0, 7), slice(7, None))
    ]
    return Strata(of_text, sizes, np.sum(parts, axis=0))


def convolved(a: np.ndarray, b: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Chances of sharing 0, 1, ... texts from texts of each stratum."""
    chances = np.ones(1)
    for n_a, n_b, n in zip(a, b, sizes, strict=True):
        own = stats.hypergeom.pmf(np.arange(min(n_a, n_b) + 1), n, n_a, n_b)
        chances = np.convolve(chances, own)
    return chances


def presence(n: int, rates: list[float], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """[texts, features] that grow with the length of a text, and the lengths."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(5, 200, n)
    chance = np.outer(0.5 + lengths / 200, rates)
    return generator.random((n, len(rates))) < chance, lengths


def test_strata_are_texts_of_like_length_ten_or_more_and_sixty_four_at_most() -> None:
    assert strata_of(np.array([5, 1, 5, 3] * 5)).tolist() == [1, 0, 1, 0] * 5
    assert strata_of(np.arange(19)).max() == 0 and strata_of(np.arange(20)).max() == 1
    lengths = np.random.default_rng(0).integers(1, 9, 5000)
    found = strata_of(lengths)
    assert found.max() == 63 and np.bincount(found).min() >= 78
    assert (np.diff(found[np.argsort(lengths, kind="stable")]) >= 0).all()


@pytest.mark.parametrize(("n", "near", "far"), [(300, 1e-9, 1e-9), (900, 0.05, 0.25)])
def test_p_is_the_tail_of_the_convolution(n: int, near: float, far: float) -> None:
    """Exact for few texts; for many the saddlepoint is near, less so in the far tail. Every count
    from far below what chance gives to far above it."""
    on, lengths = presence(n, [0.1, 0.2, 0.4, 0.15], seed=1)
    strata = stratified(on, lengths)
    by_hand = np.array([on[strata.of_text == s].sum(axis=0) for s in range(len(strata.sizes))])
    assert (by_hand == strata.counts.T).all() and on.sum(axis=0).min() > 20
    for a, b in ((0, 1), (2, 1), (3, 0)):
        chances = convolved(by_hand[:, a], by_hand[:, b], strata.sizes)
        tails = np.cumsum(chances[::-1])[::-1]
        k = np.flatnonzero((tails > 1e-7) & (tails < 0.99))
        assert len(k) > 10
        one, other = (np.full(1, feature) for feature in (a, b))
        found = [p_shared(np.full(1, float(n)), one, other, strata)[0] for n in k]
        error = np.abs(np.array(found) / tails[k] - 1)
        assert error[tails[k] > 1e-3].max() < near and error.max() < far
        swapped = p_shared(np.full(1, float(k[-1])), other, one, strata)
        assert swapped[0] == pytest.approx(found[-1])
        mean = chances @ np.arange(len(chances))
        assert expected_shared(strata, 0, 4)[a, b] == pytest.approx(mean)


def test_the_spread_is_what_is_left_within_strata() -> None:
    on, lengths = presence(200, [0.1, 0.5], seed=2)
    strata = stratified(on, lengths)
    centred = on.astype(float)
    for s in range(len(strata.sizes)):
        centred[strata.of_text == s] -= centred[strata.of_text == s].mean(axis=0)
    assert spread_within(strata) == pytest.approx(np.square(centred).sum(axis=0))
    assert expected_shared(strata, 1, 2).shape == (1, 2)


def test_a_count_that_is_just_what_chance_gives_has_its_own_share_in_p() -> None:
    place = np.arange(640) % 10
    on = np.stack([place < 5, (place > 2) & (place < 8)], axis=1)
    strata = stratified(on, np.arange(640) // 10)
    assert strata.counts.tolist() == [[5.0] * 64] * 2
    chances = convolved(np.full(64, 5), np.full(64, 5), np.full(64, 10))
    found = p_shared(np.full(1, 160.0), np.array([0]), np.array([1]), strata)
    assert found[0] == pytest.approx(chances[160:].sum(), rel=0.01)
