"""Information, rank correlations and circuits against scipy and hand counts."""

import numpy as np
import pytest
from scipy import stats

from energylens.stats.coactivation import clusters, top_by_row
from energylens.stats.information import (
    dealt,
    entropy,
    informed,
    mutual_information,
    omega_squared,
    partial_spearman,
    rotated,
)
from energylens.stats.multiple_tests import benjamini_hochberg
from energylens.stats.routing_paths import Walks, find_circuits

GENERATOR = np.random.default_rng(0)
A, B = GENERATOR.integers(0, 4, 500), GENERATOR.integers(0, 6, 500)


def test_mutual_information_is_the_divergence_from_independence() -> None:
    for x, y in ((A, B), (A, A), (A, (A + B) % 5)):
        joint = np.asarray(stats.contingency.crosstab(x, y)[1]) / len(x)
        alone = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
        expected = stats.entropy(joint.ravel(), alone.ravel(), base=2)
        assert mutual_information(x, y) == pytest.approx(expected, abs=1e-10)
    assert entropy(A) == pytest.approx(stats.entropy(np.bincount(A), base=2))


def test_the_bias_of_small_samples_is_taken_off() -> None:
    each, same = np.arange(500), np.zeros(500, dtype=np.int64)
    found = informed(A, B, dealt(A, B, each), 400)
    bias = 3 * 5 / (2 * 500 * np.log(2))  # Miller and Madow's
    assert found.expected == pytest.approx(bias, rel=0.1)
    assert found.observed > 0 and abs(found.adjusted) < 0.01 and found.p > 0.01
    mixed = np.where(GENERATOR.random(500) < 0.5, A, B % 4)
    own = informed(mixed, A, dealt(mixed, A, each), 400)
    assert own.adjusted > 0.2 and own.p < 0.01
    assert np.isnan(informed(A, same, dealt(A, same, each), 9).normalized)


def test_conditional_information_is_the_mean_over_groups() -> None:
    given = GENERATOR.integers(0, 3, 500)
    label = (A + given) % 4
    found = informed(A, label, rotated(A, label, np.zeros_like(A), given), 50, given=given)
    expected = sum(
        (given == g).mean() * mutual_information(A[given == g], label[given == g]) for g in range(3)
    )
    assert found.observed == pytest.approx(expected, abs=1e-9)
    assert found.p < 0.05
    known = sum((given == g).mean() * entropy(label[given == g]) for g in range(3))
    assert found.entropy == pytest.approx(known)
    choice = np.where(GENERATOR.random(500) < 0.5, given, A)  # which `given` tells much of
    nothing = informed(choice, B, rotated(choice, B, np.zeros_like(A), given), 50, given=given)
    assert abs(nothing.adjusted) < 0.03 < nothing.observed < 0.1 and nothing.p > 0.05


def test_draws_keep_what_they_must() -> None:
    generator = np.random.default_rng(1)
    text = np.repeat(np.arange(3), [100, 150, 250])
    given = GENERATOR.integers(0, 3, 500)
    for group, draw in (
        (text, rotated(A, B, text)),
        (text * 3 + given, rotated(A, B, text, given)),
    ):
        moved, label = draw(generator)
        assert (moved != A).any() and (label == B).all()
        for g in np.unique(group):
            own = A[group == g]
            assert any((np.roll(own, s) == moved[group == g]).all() for s in range(len(own)))
    category = np.array([7, 7, 2])
    seen = set()
    for _ in range(40):
        choice, label = dealt(A, category[text], text)(generator)
        assert (choice == A).all()
        of_text = [np.unique(label[text == t]).tolist() for t in range(3)]
        assert sorted(of_text) == [[2], [7], [7]]
        seen.add(of_text.index([2]))
    assert seen == {0, 1, 2}


def test_a_category_that_a_few_texts_share_is_no_information_beyond_the_token() -> None:
    """Texts that keep to a choice of their own: their categories, dealt, tell nothing."""
    rejected = []
    for seed in range(60):
        generator = np.random.default_rng([seed, 5])
        text = np.repeat(np.arange(24), generator.integers(10, 60, 24))
        vocab = generator.integers(0, 12, len(text))
        own = generator.integers(0, 4, 24)[text]
        choice = np.where(generator.random(len(text)) < 0.4, own, vocab % 4)
        category = (generator.permutation(24) % 3)[text]
        found = informed(choice, category, dealt(choice, category, text), 99, given=vocab)
        rejected.append(found.p <= 0.05)
    assert stats.binomtest(sum(rejected), 60, 0.05, "greater").pvalue > 0.01


def test_partial_spearman_is_a_correlation_of_residual_ranks() -> None:
    x, y = GENERATOR.standard_normal(300), GENERATOR.standard_normal(300)
    none = np.zeros((300, 0))
    found = partial_spearman(x, y, none, np.arange(300) // 20)
    assert found.r == pytest.approx(stats.spearmanr(x, y)[0], abs=1e-12)
    product = (stats.rankdata(x) - 150.5) * (stats.rankdata(y) - 150.5)
    t = product.sum() / np.sqrt(np.square(product.reshape(15, 20).sum(axis=1)).sum())
    assert (found.t, found.p) == pytest.approx((t, 2 * stats.t.sf(abs(t), 14)))
    shared = GENERATOR.standard_normal((300, 1))
    a, b = x * 0.1 + shared[:, 0], y * 0.1 + shared[:, 0]
    assert partial_spearman(a, b, none, np.arange(300)).r > 0.9
    assert abs(partial_spearman(a, b, shared, np.arange(300)).r) < 0.2
    constant = partial_spearman(np.ones(300), y, none, np.arange(300))
    assert np.isnan(constant.r) and np.isnan(constant.p)


def test_partial_spearman_holds_its_level_under_texts_that_share_a_level() -> None:
    generator = np.random.default_rng(3)
    text = np.repeat(np.arange(40), 20)
    rejected = []
    for _ in range(200):
        x, y = (generator.standard_normal(40)[text] + generator.standard_normal(800) for _ in "xy")
        rejected.append(partial_spearman(x, y, np.zeros((800, 0)), text).p < 0.05)
    assert np.mean(rejected) < 0.09


def test_omega_squared_is_the_textbooks_and_near_zero_by_chance() -> None:
    values = GENERATOR.standard_normal(500)
    groups = [values[k == A] for k in range(4)]
    f = stats.f_oneway(*groups)[0]
    assert omega_squared(values, A) == pytest.approx(3 * (f - 1) / (3 * (f - 1) + 500), abs=1e-9)
    assert omega_squared(A.astype(float), A) == pytest.approx(1.0)
    assert np.isnan(omega_squared(np.ones(500), A))


def beyond_the_token(weight: np.ndarray, on: np.ndarray, vocab: np.ndarray) -> float:
    """Weight of the tokens on a path less what layers give that know nothing of each other but the
    token."""
    total = float(weight @ on.all(axis=1))
    for own in (vocab == v for v in np.unique(vocab)):
        n = weight[own].sum()
        total -= n * np.prod(weight[own] @ on[own] / n)
    return total


def test_the_t_of_a_path_is_its_excess_over_what_texts_move_it_by() -> None:
    """By numerical derivatives: how the excess moves with the weight of each text."""
    generator = np.random.default_rng(8)
    text, vocab = np.repeat(np.arange(20), 40), generator.integers(0, 4, 800)
    choices = (vocab[:, None] + generator.integers(0, 2, (800, 2))) % 2
    circuits = list(find_circuits(Walks(choices, text, vocab, np.full((800, 2), np.nan)), 2, 9))
    assert len(circuits) == 4
    for circuit in circuits:
        on = choices == circuit.choices
        moved = np.array([
            [beyond_the_token(1 + h * (text == j), on, vocab) for h in (1e-4, -1e-4)]
            for j in range(20)
        ])  # fmt: skip
        slopes = (moved[:, 0] - moved[:, 1]) / 2e-4
        t = beyond_the_token(np.ones(800), on, vocab) / np.sqrt(np.square(slopes).sum())
        assert circuit.t == pytest.approx(t, rel=1e-4)
        assert circuit.p == pytest.approx(2 * stats.t.sf(abs(t), 19), rel=1e-3)


def test_circuits_are_counted_by_hand() -> None:
    generator = np.random.default_rng(2)
    choices = generator.integers(0, 2, (2000, 3))
    text, vocab = np.repeat(np.arange(40), 50), generator.integers(0, 9, 2000)
    drop = generator.standard_normal((2000, 3))
    drop[::50] = np.nan  # a token in each text has no next one
    found = {c.choices: c for c in find_circuits(Walks(choices, text, vocab, drop), 3, 20)}
    assert len(found) == 8
    for path, circuit in found.items():
        on = (choices == path).all(axis=1)
        assert circuit.n_tokens == on.sum() and circuit.support == on.mean()
        assert circuit.n_texts == len(np.unique(text[on]))
        singles = [(choices[:, i] == path[i]).mean() for i in range(3)]
        assert circuit.lift == pytest.approx(on.mean() / np.prod(singles))
        assert circuit.pmi == pytest.approx(np.log(circuit.lift))
        pairs = [(choices[:, i : i + 2] == path[i : i + 2]).all(axis=1).mean() for i in (0, 1)]
        assert circuit.markov_lift == pytest.approx(on.mean() * singles[1] / np.prod(pairs))
        total = drop.sum(axis=1)
        mean = np.nanmean(total)
        assert circuit.energy_drop == pytest.approx(np.nanmean(total[on]) - mean)
        known = on & np.isfinite(total)
        mine = np.where(known, total - total[known].mean(), 0.0)
        sums = [mine[text == j].sum() for j in range(40)]
        error = np.sqrt(np.square(sums).sum()) / known.sum()
        assert circuit.energy_drop_error == pytest.approx(error)
        assert all(on[r] for r in circuit.rows)
        assert circuit.npmi == pytest.approx(circuit.pmi / -np.log(on.mean()))


def test_short_rare_or_narrow_paths_are_left_out() -> None:
    choices = np.zeros((400, 2), dtype=np.int64)
    choices[:30] = 1  # too few tokens
    choices[300:350] = [5, 6]  # just enough
    choices[350:399] = [6, 5]  # one too few
    choices[30:100] = 2  # one text only
    choices[100:200] = 3  # one vocabulary id only
    text = np.concatenate([np.zeros(100, np.int64), np.arange(300) // 10])
    vocab = np.concatenate([np.arange(100), np.zeros(100, np.int64), np.arange(200)])
    vocab[300:350] = np.arange(50)  # tokens that go elsewhere too: not expected so often
    walks = Walks(choices, text, vocab, np.full((400, 2), np.nan))
    assert [c.choices for c in find_circuits(walks, 2, 9)] == [(3, 3), (0, 0), (5, 6)]


def test_top_by_row_skips_nan_and_orders_ties_by_column() -> None:
    values = np.array([[1.0, np.nan, 3.0, 3.0], [np.nan] * 4])
    row, rank, column = top_by_row(values, 3)
    assert row.tolist() == [0, 0, 0] and rank.tolist() == [0, 1, 2] and column.tolist() == [2, 3, 0]


def test_a_selection_pays_for_all_tests() -> None:
    p = np.sort(GENERATOR.random(1000)) ** 2
    whole = stats.false_discovery_control(p)
    np.testing.assert_allclose(benjamini_hochberg(p[:30], 1000), np.minimum(q30(p), 1.0))
    assert benjamini_hochberg(p, 1000) == pytest.approx(whole)
    with_gaps = np.insert(p, [0, 400], np.nan)  # what could not be tested costs nothing
    assert benjamini_hochberg(with_gaps)[~np.isnan(with_gaps)] == pytest.approx(whole)


def q30(p: np.ndarray) -> np.ndarray:
    """BH over all, with the tests left out taken as the largest."""
    return np.minimum.accumulate((p[:30] * 1000 / np.arange(1, 31))[::-1])[::-1]


def test_clusters_are_numbered_by_size_and_leave_dense_features_out() -> None:
    a, b = np.array([0, 1, 5, 8, 2, 3, 9]), np.array([1, 2, 6, 9, 3, 9, 4])
    phi = np.array([0.9, 0.5, 0.7, 0.9, 0.49, 0.9, 0.9])  # 0.5 is enough
    dense = np.zeros(10, dtype=bool)
    dense[9] = True
    found = clusters(a, b, phi, dense)
    assert found.tolist() == [0, 0, 0, -1, -1, 1, 1, -1, -1, -1]
