"""How much a router's choice tells of something else, with the bias of small samples taken off."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import special, stats

from energylens.stats.clusters import MIN_TEXTS, Interval, delete_a_group, groups_of


@dataclass(frozen=True)
class Information:
    """Mutual information of two labels over the same tokens, in bits."""

    observed: float
    expected: float
    """Mean over draws of the null: what chance and bias give."""
    entropy: float
    """Of the label: the most there could be."""
    p: float
    """(1 + draws with as much) / (1 + draws); NaN where there is no test."""

    @property
    def adjusted(self) -> float:
        """Observed less expected, bits."""
        return self.observed - self.expected

    @property
    def normalized(self) -> float:
        """Adjusted over the label's entropy; NaN where the label is constant. Dividing by the
        smaller of both entropies would reward a collapsed router."""
        return self.adjusted / self.entropy if self.entropy > 0 else np.nan


Draw = Callable[[np.random.Generator], tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]]
"""Choices and labels of the same tokens under a null."""


def mutual_information(x: Int[np.ndarray, " n"], y: Int[np.ndarray, " n"]) -> float:
    """Plug-in mutual information of two labels, bits."""
    return entropy(x) + entropy(y) - entropy(_pair(x, y))


def _pair(x: Int[np.ndarray, " n"], y: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """One label for both."""
    return x * (int(y.max(initial=0)) + 1) + y


def entropy(x: Int[np.ndarray, " n"]) -> float:
    """Plug-in entropy of a label, bits."""
    _, counts = np.unique(x, return_counts=True)
    return _bits(counts) if len(counts) else 0.0


def _bits(counts: Int[np.ndarray, " k"]) -> float:
    """Entropy of counts; as scipy.stats has it, whose care for other shapes takes longer than the
    sum, and a test draws hundreds."""
    return float(special.entr(counts / counts.sum()).sum() / np.log(2))


def informed(
    choice: Int[np.ndarray, " n"],
    label: Int[np.ndarray, " n"],
    draw: Draw,
    n_draws: int,
    given: Int[np.ndarray, " n"] | None = None,
) -> Information:
    """I(choice; label), or I(choice; label | given); a draw must leave I(choice; given) as it is,
    which choices moved among tokens alike in `given` do, and labels that move."""

    def told(choice: Int[np.ndarray, " n"], label: Int[np.ndarray, " n"]) -> float:
        # the chain rule: I(A; Y | X) = I(A; (X, Y)) - I(A; X), the last the same in every draw
        return mutual_information(choice, label if given is None else _pair(given, label))

    observed = told(choice, label)
    generator = np.random.default_rng(0)
    drawn = np.array([told(*draw(generator)) for _ in range(n_draws)])
    known = mutual_information(choice, given) if given is not None else 0.0
    p = (1 + (drawn >= observed - 1e-12).sum()) / (1 + n_draws)
    whole = label if given is None else _pair(given, label)
    left = entropy(whole) - (entropy(given) if given is not None else 0.0)
    return Information(observed - known, float(drawn.mean()) - known, left, float(p))


def information_interval(
    choice: Int[np.ndarray, " n"],
    label: Int[np.ndarray, " n"],
    text: Int[np.ndarray, " n"],
    found: Information,
) -> Interval:
    """Interval of the adjusted information by leaving out groups of texts.

    The null's mean is taken as known: it moves far less than the information does.
    """
    group, n_groups = groups_of(text)
    if n_groups < MIN_TEXTS:
        return Interval(found.adjusted, np.nan, np.nan)
    of_choice, of_label, of_both = (
        _entropies_without(x, group, n_groups) for x in (choice, label, _pair(choice, label))
    )
    return delete_a_group(found.adjusted, of_choice + of_label - of_both)


def _entropies_without(
    x: Int[np.ndarray, " n"], group: Int[np.ndarray, " n"], n_groups: int
) -> Float[np.ndarray, " n_groups"]:
    """Plug-in entropy with each group left out, bits."""
    _, code = np.unique(x, return_inverse=True)
    n = int(code.max()) + 1
    counts = np.bincount(code, minlength=n)
    rest = (counts - np.bincount(code[group == g], minlength=n) for g in range(n_groups))
    return np.array([_bits(own) for own in rest])


def rotated(
    choice: Int[np.ndarray, " n"],
    label: Int[np.ndarray, " n"],
    text: Int[np.ndarray, " n"],
    given: Int[np.ndarray, " n"] | None = None,
) -> Draw:
    """Draws that rotate the choices of each text, or those of its tokens alike in `given`: what
    texts differ in stays, and so do runs of the same choice. Tokens come text by text."""
    group = text if given is None else _pair(text, given)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(group[order]) != 0]))
    lengths = np.diff(np.concatenate([starts, [len(group)]]))
    begin, size = np.repeat(starts, lengths), np.repeat(lengths, lengths)
    place = np.arange(len(group)) - begin

    def draw(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        offset = np.repeat(generator.integers(0, lengths), lengths)
        moved = np.empty_like(choice)
        moved[order] = choice[order[begin + (place + offset) % size]]
        return moved, label

    return draw


def dealt(
    choice: Int[np.ndarray, " n"], label: Int[np.ndarray, " n"], text: Int[np.ndarray, " n"]
) -> Draw:
    """Draws that deal the labels of texts to texts: a label all tokens of a text share is one
    observation, not as many as the text has tokens."""
    _, first, rows = np.unique(text, return_index=True, return_inverse=True)
    of_text = label[first]
    return lambda generator: (choice, generator.permutation(of_text)[rows])


@dataclass(frozen=True)
class RankCorrelation:
    """A partial Spearman correlation with a test clustered by text; NaN where undefined."""

    r: float
    t: float
    p: float


def partial_spearman(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    given: Float[np.ndarray, "n q"],
    text: Int[np.ndarray, " n"],
) -> RankCorrelation:
    """Rank correlation of x and y given covariates (by rank), t from sums over texts; no test
    with fewer than MIN_TEXTS."""
    ones = np.ones((len(x), 1))
    base = np.concatenate([ones, stats.rankdata(given, axis=0)], axis=1)
    left = [
        ranks - base @ np.linalg.lstsq(base, ranks, rcond=None)[0]
        for ranks in (stats.rankdata(x), stats.rankdata(y))
    ]
    norm = float(np.sqrt(np.square(left[0]).sum() * np.square(left[1]).sum()))
    if norm <= 1e-9 * len(x):
        return RankCorrelation(np.nan, np.nan, np.nan)
    product = left[0] * left[1]
    r = float(product.sum()) / norm
    sums = np.bincount(np.unique(text, return_inverse=True)[1], product)
    if len(sums) < MIN_TEXTS:
        return RankCorrelation(r, np.nan, np.nan)
    t = float(product.sum() / np.sqrt(np.square(sums).sum()))
    return RankCorrelation(r, t, float(2 * stats.t.sf(abs(t), len(sums) - 1)))


def omega_squared(values: Float[np.ndarray, " n"], choice: Int[np.ndarray, " n"]) -> float:
    """Share of the variance of `values` that the choice explains, less what chance explains
    (Hays, 1963); NaN where nothing varies."""
    if not len(values):
        return np.nan
    labels, index = np.unique(choice, return_inverse=True)
    counts = np.bincount(index)
    means = np.bincount(index, values) / counts
    between = float((counts * np.square(means - values.mean())).sum())
    whole = float(np.square(values - values.mean()).sum())
    k, n = len(labels), len(values)
    if whole <= 0 or n <= k:
        return np.nan
    within = (whole - between) / (n - k)
    return (between - (k - 1) * within) / (whole + within)
