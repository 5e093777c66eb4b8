"""EFAS statistics: planted signal is found, and without signal the default holds its level where
plainer tests do not. The settings are 80 windows of 64 tokens, 400 features, nominal 5 %."""

import itertools

import numpy as np
import pytest
from scipy import stats

from energylens.stats.efas import SignFlips, Sums, align, cluster_t, text_scores
from energylens.stats.multiple_tests import benjamini_hochberg
from energylens.stats.resampling import correlation, permute_texts, shift_windows, spearman
from energylens.stats.two_way import two_way
from tests.synthetic import NULLS, POSITION, WINDOW, F, J, T, World, plant_efas, unrelated


def default_test(data: World, demean: bool = True):
    """The program's own functions, as the index calls them."""
    token, feature = (i.T for i in np.nonzero(data.z.T)[::-1])
    z = data.z[token, feature]
    g = data.g[token, feature]
    if demean:
        sums = [
            np.stack([np.bincount(by, column, n) for column in data.a.T], axis=1)
            for by, n in ((WINDOW, J), (POSITION, T))
        ]
        effects = two_way(WINDOW, POSITION, sums[0], sums[1])
        g = g + (data.directions @ effects.window.T)[feature, WINDOW[token]]
        g = g + (data.directions @ effects.position.T)[feature, POSITION[token]]
    else:
        g = g - data.g.mean(axis=0)[feature]
    scores = text_scores(feature, WINDOW[token], z, g)
    return scores, cluster_t(scores, (data.z != 0).sum(axis=0).astype(float), J)


def rate(p: np.ndarray) -> float:
    return float(np.nanmean(p < 0.05))


@pytest.mark.parametrize("kind", NULLS)
def test_without_signal_the_default_rejects_at_its_level(kind: str) -> None:
    data = unrelated(kind)
    scores, found = default_test(data)
    assert np.isfinite(found.p).sum() > 300
    assert rate(found.p) <= 0.085  # three binomial standard errors above 5 %
    assert np.nanmin(benjamini_hochberg(found.p)) > 0.01
    flips = SignFlips(J, 999)
    p = flips.p(scores, found.t)
    assert rate(p) <= 0.085
    assert np.nanmin(flips.familywise(found.t)) > 0.001


def test_naive_tests_fail_where_they_are_said_to() -> None:
    """Autocorrelation breaks the plain p, a shared position profile breaks all but the default
    and the permutation of windows."""
    bursty, profile = unrelated("bursty,ar"), unrelated("profile")
    for data, least in ((bursty, 0.2), (profile, 0.9)):
        r = correlation(data.z, data.g)
        plain = 2 * stats.t.sf(np.abs(r) * np.sqrt((J * T - 2) / (1 - r**2)), J * T - 2)
        assert rate(plain) > least
    assert rate(default_test(profile, demean=False)[1].p) > 0.9
    assert rate(default_test(bursty, demean=False)[1].p) < 0.085
    some = slice(0, 60)
    shift = shift_windows(profile.z[:, some], profile.g[:, some], WINDOW, WINDOW, 99)
    swap = permute_texts(profile.z[:, some], profile.g[:, some], WINDOW, POSITION, 99)
    assert rate(shift.p) > 0.9 and rate(swap.p) < 0.16 and swap.n_texts == J
    for test in (
        shift_windows(bursty.z[:, some], bursty.g[:, some], WINDOW, WINDOW, 99),
        permute_texts(bursty.z[:, some], bursty.g[:, some], WINDOW, POSITION, 99),
    ):
        assert rate(test.p) < 0.16


def planted(strength: float) -> World:
    return plant_efas(unrelated("bursty+topic,ar+topic", seed=1), strength)


def test_planted_alignment_is_found_and_grows_with_its_strength() -> None:
    found = {}
    for strength in (0.1, 0.3, 2.0):
        scores, tested = default_test(planted(strength))
        q = benjamini_hochberg(tested.p)
        found[strength] = (q[:20] < 0.05).sum()
        assert np.nanmean(tested.t[:20]) > 0
        if strength == 2.0:
            flips = SignFlips(J, 999)
            flips.p(scores, tested.t)
            assert (flips.familywise(tested.t)[:20] < 0.05).sum() >= 10
    assert found[0.1] <= found[0.3] <= found[2.0] and found[2.0] >= 12
    sign = default_test(planted(-2.0))[1]
    assert (sign.t[:20] < -3).sum() >= 17


def test_effects_are_those_of_least_squares_with_dummies_in_an_unbalanced_panel() -> None:
    generator = np.random.default_rng(3)
    kept = generator.random((9, 12)) < 0.6
    kept[4] = False  # a window without a token
    window, position = np.nonzero(kept)
    values = generator.standard_normal((len(window), 3)) + window[:, None] + position[:, None] ** 2
    sums = [
        np.stack([np.bincount(by, column, n) for column in values.T], axis=1)
        for by, n in ((window, 9), (position, 12))
    ]
    effects = two_way(window, position, sums[0], sums[1])
    dummies = np.concatenate(
        [window[:, None] == np.arange(9), position[:, None] == np.arange(12)], axis=1
    ).astype(float)
    expected = values - dummies @ np.linalg.lstsq(dummies, values, rcond=None)[0]
    found = values - effects.window[window] - effects.position[position]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_constant_or_silent_feature_has_no_value() -> None:
    zero, one = np.zeros(3), np.ones(3)
    n_active = np.array([0.0, 10.0, 10.0])
    sums = Sums(
        n_tokens=10, n_active=n_active, z=n_active * 2, zz=n_active * 4, zg=zero, g_active=zero,
        gg_active=one, g=zero, gg=np.array([5.0, 5.0, 0.0]),
    )  # fmt: skip
    found = align(sums)
    assert np.isnan(found.efas).all() and np.isnan(found.dose).all()
    assert found.attribution.tolist() == [0, 0, 0]
    assert np.isnan(benjamini_hochberg(np.full(4, np.nan))).all()


def test_scores_are_cut_at_features_and_texts() -> None:
    feature, text = np.array([0, 0, 0, 2, 2]), np.array([1, 1, 3, 3, 3])
    found = text_scores(feature, text, np.arange(1.0, 6.0), np.ones(5))
    assert found.feature.tolist() == [0, 0, 2] and found.text.tolist() == [1, 3, 3]
    assert found.score.tolist() == [3, 3, 9]


def test_flips_are_the_same_however_features_are_grouped() -> None:
    scores, found = default_test(unrelated("iid"))
    whole = SignFlips(J, 500)
    p = whole.p(scores, found.t)
    parts = SignFlips(J, 500)
    pieces = []
    for first in range(0, F, 150):
        own = (scores.feature >= first) & (scores.feature < first + 150)
        part = type(scores)(scores.feature[own] - first, scores.text[own], scores.score[own])
        pieces.append(parts.p(part, found.t[first : first + 150]))
    np.testing.assert_array_equal(np.concatenate(pieces), p)
    np.testing.assert_array_equal(parts.familywise(found.t), whole.familywise(found.t))


def test_shift_and_permutation_equal_all_possible_draws() -> None:
    """Ten texts of two tokens have 2^10 rotations, twelve of two kinds 6! 6! exchanges: the p of
    many draws comes to the share of them."""
    generator = np.random.default_rng(5)
    z, g = generator.random((20, 1)), generator.random((20, 1))
    text = np.repeat(np.arange(10), 2)
    straight = (z[:, 0] * g[:, 0]).reshape(10, 2).sum(axis=1)
    turned = (z[::2, 0] * g[1::2, 0]) + (z[1::2, 0] * g[::2, 0])
    chosen = np.array(list(itertools.product([False, True], repeat=10)))
    sums = np.where(chosen, turned, straight).sum(axis=1)
    far = np.abs(sums - sums.mean()) >= np.abs(sums[0] - sums.mean()) - 1e-12
    found = shift_windows(z, g, text, text, 20_000)
    assert found.n_texts == 10 and found.p[0] == pytest.approx(far.mean(), abs=0.02)
    levels = np.array([3.0, 1, 4, 1, 5, 9, 2, 6, 5, 3])
    swap = permute_texts(
        np.repeat(levels, 2)[:, None], np.repeat(levels[::-1], 2)[:, None], text,
        np.tile([0, 1], 10), 4000,
    )  # fmt: skip
    expected = stats.permutation_test(
        (levels, levels[::-1]), lambda x, y: (x * y).sum(), permutation_type="pairings",
        n_resamples=4000, rng=1,
    ).null_distribution  # fmt: skip
    observed = (levels * levels[::-1]).sum()
    centre = expected.mean()
    far = np.abs(expected - centre) >= np.abs(observed - centre) - 1e-9
    assert swap.n_texts == 10 and swap.p[0] == pytest.approx(far.mean(), abs=0.04)


def test_texts_that_match_no_other_and_few_texts_are_no_test() -> None:
    generator = np.random.default_rng(7)
    z, g = generator.random((40, 1)), generator.random((40, 1))
    text, place = np.repeat(np.arange(20), 2), np.arange(40)
    lone = permute_texts(z, g, text, place, 10)
    assert np.isnan(lone.p[0]) and lone.n_texts == 0
    few = permute_texts(z, g, np.repeat(np.arange(4), 10), np.tile(np.arange(10), 4), 10)
    assert np.isnan(few.p[0]) and few.n_texts == 4
    assert np.isnan(shift_windows(z, g, text, np.repeat(np.arange(4), 10), 10).p[0])


def test_spearman_is_scipys() -> None:
    generator = np.random.default_rng(6)
    z = np.maximum(generator.standard_normal((200, 5)), 0)
    g = generator.standard_normal((200, 5)) + z
    z[:, 4] = 0
    found = spearman(z, g)
    for f in range(4):
        assert found[f] == pytest.approx(stats.spearmanr(z[:, f], g[:, f])[0], abs=1e-12)
    assert np.isnan(found[4])
