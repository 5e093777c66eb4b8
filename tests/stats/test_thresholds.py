"""What decides at its border: the least tokens and texts of a test, and the least p of a draw."""

import numpy as np
import pytest

from energylens.stats.clusters import MIN_TEXTS, clustered_mean, jackknife
from energylens.stats.efas import MIN_TOKENS, Scores, SignFlips, cluster_t, t_of_sums
from energylens.stats.information import (
    Information,
    dealt,
    information_interval,
    informed,
    partial_spearman,
)
from energylens.stats.paired import difference_of_means, paired_groups
from energylens.stats.resampling import permute_texts, shift_windows

N_DRAWS = 19


def scores_of(*features: list[float]) -> Scores:
    """Scores of features in texts 0, 1, ..."""
    n = [len(own) for own in features]
    return Scores(
        np.repeat(np.arange(len(n)), n),
        np.concatenate([np.arange(m) for m in n]),
        np.concatenate([np.array(own) for own in features]),
    )


def test_the_documented_least_is_thirty_tokens_and_ten_texts() -> None:
    assert (MIN_TOKENS, MIN_TEXTS) == (30, 10)


def test_a_feature_is_tested_from_thirty_tokens_and_ten_texts_on() -> None:
    scores = scores_of([1.0, 2.0] * 5, [1.0, 2.0] * 5, [1.0] * 9)
    found = cluster_t(scores, np.array([30.0, 29.0, 30.0]), n_texts=40)
    assert found.n_texts.tolist() == [10, 10, 9]
    assert (
        np.isfinite([found.t, found.p, found.low, found.high]).tolist()
        == [[True, False, False]] * 4
    )


@pytest.mark.parametrize(("n", "is_enough"), [(10, True), (9, False)])
def test_ten_texts_are_enough_and_nine_are_not(n: int, is_enough: bool) -> None:
    generator = np.random.default_rng(0)
    text = np.repeat(np.arange(n), 4)
    x, y = generator.standard_normal((2, len(text)))
    a, b = x[:n], y[:n]
    choice, label = generator.integers(0, 2, (2, len(text)))
    told = Information(0.1, 0.0, 1.0, 0.5)
    for found in (
        jackknife(lambda kept: np.array([x[kept].mean()]), text)[0].low,
        t_of_sums(x.reshape(1, n, 4).sum(axis=2), np.array([True]))[0][0],
        information_interval(choice, label, text, told).low,
        partial_spearman(x, y, np.zeros((len(x), 0)), text).p,
        difference_of_means(a, b, is_paired=True).p,
        difference_of_means(a, b, is_paired=False).p,
        paired_groups(a[None], b[None])[1][0],
        permute_texts(x[:, None], y[:, None], text, np.tile(np.arange(4), n), 9).p[0],
        shift_windows(x[:, None], y[:, None], text, text, 9).p[0],
    ):
        assert np.isfinite(found) == is_enough


@pytest.mark.parametrize(("n", "is_enough"), [(20, True), (19, False)])
def test_the_interval_of_a_mean_asks_for_twenty_texts_of_equal_size(
    n: int, is_enough: bool
) -> None:
    x = np.random.default_rng(0).standard_normal(4 * n)
    assert np.isfinite(clustered_mean(x, np.repeat(np.arange(n), 4)).low) == is_enough
    unlike = np.repeat(np.arange(n), np.where(np.arange(n) % 2, 7, 1))
    assert np.isnan(clustered_mean(x[: len(unlike)], unlike[: len(x)]).low)


def test_information_that_no_draw_reaches_has_the_least_p_and_what_all_reach_has_one() -> None:
    label = np.arange(400) % 4
    each = np.arange(400)
    found = informed(label, label, dealt(label, label, each), N_DRAWS)
    assert found.p == pytest.approx(1 / (1 + N_DRAWS))
    constant = np.zeros(400, dtype=np.int64)
    nothing = informed(label, constant, dealt(label, constant, each), N_DRAWS)
    assert nothing.p == 1.0


def test_resampling_counts_what_was_seen_as_a_draw() -> None:
    generator = np.random.default_rng(1)
    text, place = np.repeat(np.arange(12), 8), np.tile(np.arange(8), 12)
    z = generator.standard_normal((96, 1))
    level = generator.standard_normal(12)[text][:, None]
    profile = generator.standard_normal(8)[place][:, None]
    seen = shift_windows(z, z, text, text, N_DRAWS), permute_texts(z, z, text, place, N_DRAWS)
    unmoved = (
        shift_windows(z, level, text, text, N_DRAWS),
        permute_texts(z, profile, text, place, N_DRAWS),
    )
    assert [test.p[0] for test in seen] == pytest.approx([1 / (1 + N_DRAWS)] * 2)
    assert [test.p[0] for test in unmoved] == [1.0, 1.0]


def test_flips_count_what_was_seen_as_a_flip() -> None:
    same, none, tied = [1.0] * 20, [1.0, -1.0] * 10, [3.0] + [0.0] * 19
    scores = scores_of(same, none, tied)
    t = cluster_t(scores, np.array([40.0] * 3), 20).t
    assert t.tolist() == pytest.approx([np.sqrt(20), 0.0, 1.0])
    flips = SignFlips(20, N_DRAWS)
    assert flips.p(scores, t).tolist() == pytest.approx([1 / (1 + N_DRAWS), 1.0, 1.0])
    assert flips.familywise(t)[:2].tolist() == pytest.approx([1 / (1 + N_DRAWS), 1.0])
