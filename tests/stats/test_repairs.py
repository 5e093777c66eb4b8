"""What is learned of features against the plain sums; halves, controls, and splits together."""

import numpy as np
import pytest
from scipy import sparse

from energylens.stats.clusters import Interval
from energylens.stats.efas import MIN_TOKENS
from energylens.stats.repairs import (
    TextSums,
    halvings,
    learn,
    matched_gains,
    random_signs,
    signed_gains,
    strongest,
    together,
)

N_TEXTS, TOKENS, D = 24, 20, 6
SIZE = 9


def world() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Codes, gradients and text of every token; directions. The last feature is too rare."""
    draw = np.random.default_rng(0)
    text = np.repeat(np.arange(N_TEXTS), TOKENS)
    z = draw.exponential(size=(len(text), SIZE)) * (draw.random((len(text), SIZE)) < 0.4)
    z[:, -1] = 0
    z[:5, -1] = 1.0
    return z, draw.normal(size=(len(text), D)) + 0.3, text, draw.normal(size=(SIZE, D))


def sums_of(z: np.ndarray, a: np.ndarray, text: np.ndarray, d: np.ndarray) -> TextSums:
    by_text = np.equal.outer(np.arange(N_TEXTS), text).astype(float)
    zg = z * -(a @ d.T)
    power = np.square(z) * np.square(d).sum(1)
    matrices = [sparse.csr_matrix(by_text @ values) for values in (zg, z, (z > 0) * 1.0, power)]
    zg_, z_, n_, p_ = matrices
    lens = (sparse.csr_matrix(by_text @ (zg * 0.5)), by_text @ a * 0.5)
    return TextSums(by_text.sum(1).astype(int), zg_, z_, n_, p_, by_text @ a, *lens)


def test_it_learns_what_plain_sums_say() -> None:
    z, a, text, d = world()
    chosen = np.arange(N_TEXTS) % 2 == 0
    found = learn(sums_of(z, a, text, d).of(chosen), d)
    kept = chosen[text]
    z, text, g = z[kept], text[kept], -(a[kept] @ d.T)
    assert np.allclose(found.attribution, (z * g).mean(0))
    assert np.allclose(found.n_active, (z > 0).sum(0))
    assert np.allclose(found.mean_active[:-1], [z[z[:, f] > 0, f].mean() for f in range(SIZE - 1)])
    centred = (z - z.mean(0)) * (g - g.mean(0))
    for products, t in ((z * g, found.t), (centred, found.t_efas)):
        scores = np.stack([products[text == one].sum(0) for one in np.unique(text)])
        expected = scores.sum(0) / np.sqrt(np.square(scores).sum(0))
        assert np.allclose(t[:-1], expected[:-1])
        assert np.isnan(t[-1])
    assert found.n_active[-1] < MIN_TOKENS
    assert found.t_efas_lens is not None and np.allclose(
        found.t_efas_lens, found.t_efas, equal_nan=True
    ), "half the gradient has the same t"
    assert found.tested.tolist() == list(range(SIZE - 1))


def test_halves_are_halves_and_pairs_change_places() -> None:
    found = halvings(21, 5, 0)
    assert [half.sum() for half in found] == [10, 11, 10, 11, 10]
    assert (found[0] == ~found[1]).all() and (found[2] == ~found[3]).all()
    assert (found[0] != found[2]).any()
    assert (halvings(21, 5, 0)[4] == found[4]).all()
    assert (halvings(21, 5, 1)[0] != found[0]).any()


def test_gains_lower_the_energy_and_controls_are_like_them() -> None:
    z, a, text, d = world()
    known = learn(sums_of(z, a, text, d), d)
    chosen = strongest(np.abs(known.t), 3, known)
    assert (np.abs(known.t[chosen]) >= np.sort(np.abs(known.t[:-1]))[-3]).all()
    gains = signed_gains(chosen, known, 0.3)
    assert (gains[chosen] * known.attribution[chosen] > 0).all() and (gains != 0).sum() == 3
    other = matched_gains(gains, known)
    assert not (gains * other).any() and sorted(other[other != 0]) == sorted(gains[gains != 0])
    assert other[-1] == 0, "never one that could not be chosen"
    first = chosen.min()
    place = np.log([known.n_active, known.power]).T
    place /= place[:-1].std(0)
    free = [f for f in range(SIZE - 1) if f not in chosen]
    nearest = min(free, key=lambda f: np.square(place[f] - place[first]).sum())
    assert other[nearest] == gains[first]
    every = signed_gains(known.tested, known, 0.3)
    assert not matched_gains(every, known).any(), "none is left"
    turned = random_signs(gains, 3)
    assert (np.abs(turned) == np.abs(gains)).all()
    assert {float(np.sign(random_signs(gains, s)[first])) for s in range(20)} == {-1.0, 1.0}


def test_splits_together_reach_as_far_as_they_do_on_average() -> None:
    found = together([Interval(1.0, 0.0, 3.0), Interval(3.0, 2.0, 4.0)])
    assert (found.value, found.low, found.high) == (2.0, 1.0, 3.5)
    none = together([Interval(1.0, 0.0, 2.0), Interval(3.0, np.nan, np.nan)])
    assert none.value == 2.0 and np.isnan(none.low)
    assert together([Interval(1.0, 0.0, 2.0)]).high == pytest.approx(2.0)
