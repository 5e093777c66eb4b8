"""Intervals by texts: closed forms, and coverage where tokens of a text go together."""

import numpy as np
import pytest
from scipy import stats

from energylens.stats.clusters import clustered_mean, jackknife
from energylens.stats.information import information_interval, informed, rotated


def test_texts_of_one_token_give_the_usual_t_interval() -> None:
    x = np.random.default_rng(0).normal(size=40)
    found = clustered_mean(x, np.arange(40))
    low, high = stats.t.interval(0.95, 39, x.mean(), stats.sem(x))
    assert (found.value, found.low, found.high) == pytest.approx((x.mean(), low, high))


def test_leaving_out_texts_one_by_one_gives_the_same_for_a_mean() -> None:
    x = np.random.default_rng(1).normal(size=20)
    (found,) = jackknife(lambda kept: np.array([x[kept].mean()]), np.arange(20))
    expected = clustered_mean(x, np.arange(20))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_too_few_texts_have_no_interval() -> None:
    found = clustered_mean(np.ones(3), np.zeros(3, dtype=int))
    assert found.value == 1 and np.isnan(found.low) and np.isnan(found.high)
    assert np.isnan(clustered_mean(np.zeros(0), np.zeros(0, dtype=int)).value)
    (found,) = jackknife(lambda kept: np.array([kept.mean()]), np.zeros(3, dtype=int))
    assert found.value == 1 and np.isnan(found.low)


def test_intervals_hold_the_mean_as_often_as_they_say_where_texts_go_together() -> None:
    generator = np.random.default_rng(2)
    held = {"texts": 0, "tokens": 0, "groups": 0}
    n = 300
    for _ in range(n):
        sizes = generator.integers(3, 20, size=40)
        text = np.repeat(np.arange(40), sizes)
        x = generator.normal(size=40)[text] + generator.normal(size=len(text))
        found = clustered_mean(x, text)
        held["texts"] += found.low <= 0 <= found.high
        naive = clustered_mean(x, np.arange(len(x)))
        held["tokens"] += naive.low <= 0 <= naive.high
        (left,) = jackknife(lambda kept, x=x: np.array([x[kept].mean()]), text)
        held["groups"] += left.low <= 0 <= left.high
    assert stats.binomtest(held["texts"], n, 0.95).pvalue > 0.001
    assert stats.binomtest(held["groups"], n, 0.95).pvalue > 0.001
    assert held["tokens"] < 0.75 * n, "tokens taken for independent draws promise too much"


def test_the_interval_of_information_holds_the_truth_and_excludes_nothing() -> None:
    generator = np.random.default_rng(3)
    held, above = 0, 0
    truth = 1 - stats.entropy([0.8, 0.2], base=2)
    for seed in range(60):
        generator = np.random.default_rng(seed)
        text = np.repeat(np.arange(40), 25)
        label = generator.integers(0, 2, size=1000)
        choice = np.where(generator.random(1000) < 0.8, label, 1 - label)
        found = informed(choice, label, rotated(choice, label, text), 20)
        interval = information_interval(choice, label, text, found)
        assert interval.value == found.adjusted
        held += interval.low <= truth <= interval.high
        above += interval.low > 0
    assert held >= 52 and above == 60
