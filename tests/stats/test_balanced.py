"""Balanced accuracies against scipy and closed forms."""

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from energylens.stats.balanced import balanced_accuracy, judged


def test_of_texts_of_one_token_it_is_the_usual_t_test() -> None:
    """Each text has one strong token, and no silent one is found."""
    hits = np.array([1, 0, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0], dtype=float)
    n = len(hits)
    left_out = (hits - hits.mean()) / (n - 1)
    found = balanced_accuracy(
        hits.mean(keepdims=True), np.zeros(1), np.square(left_out).sum(keepdims=True),
        np.array([float(n)]),
    )  # fmt: skip
    _, expected = stats.ttest_1samp(hits, 0, alternative="greater")
    assert found.p[0] == pytest.approx(expected)
    interval = stats.t.interval(0.95, n - 1, hits.mean(), stats.sem(hits))
    assert found.accuracy[0] == pytest.approx((1 + hits.mean()) / 2)
    assert found.low[0] == pytest.approx((1 + interval[0]) / 2)
    assert found.high[0] == pytest.approx((1 + interval[1]) / 2)


def test_texts_that_are_all_alike_prove_no_more_than_their_number() -> None:
    found = balanced_accuracy(np.ones(1), np.zeros(1), np.zeros(1), np.array([12.0]))
    assert found.p[0] >= 0.5**12 and 0.8 < found.low[0] < 1 == found.high[0]


def test_few_texts_and_nothing_to_find_have_no_test() -> None:
    recall, n_equal = np.array([0.9, np.nan, 0.9]), np.array([9.9, 20.0, np.nan])
    found = balanced_accuracy(recall, np.full(3, 0.1), np.full(3, 0.01), n_equal)
    assert np.isnan([found.p, found.low, found.high]).all()


def test_a_judge_is_scored_as_by_scikit_learn_and_left_out_texts() -> None:
    draw = np.random.default_rng(3)
    text = draw.integers(0, 15, 80)
    is_active, said = draw.random(80) < 0.5, draw.random(80) < 0.6
    found = judged(is_active, said, text)
    assert found.accuracy == pytest.approx(balanced_accuracy_score(is_active, said))
    whole = 2 * balanced_accuracy_score(is_active, said) - 1
    left_out = []
    for one in range(15):
        rest = text != one
        left_out.append(2 * balanced_accuracy_score(is_active[rest], said[rest]) - 1)
    spread = np.square(np.array(left_out) - whole).sum()
    n = min((np.bincount(text[k]).sum() ** 2 / np.square(np.bincount(text[k])).sum())
            for k in (is_active, ~is_active))  # fmt: skip
    reach = stats.t.ppf(0.975, n - 1) * np.sqrt(spread * (n - 1) / n) / 2
    assert found.low == pytest.approx(found.accuracy - reach, abs=1e-9)
    assert found.high == pytest.approx(found.accuracy + reach, abs=1e-9)


def test_a_judge_of_one_kind_or_few_texts_has_no_bounds() -> None:
    yes, text = np.ones(30, dtype=bool), np.arange(30)
    assert judged(yes, yes, text).accuracy is None
    few = judged(np.arange(30) % 2 == 0, yes, text % 5)
    assert (few.accuracy, few.low, few.high) == (0.5, None, None)
