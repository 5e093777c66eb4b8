"""How much a router's choice tells of something else, with the bias of small samples taken off."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from energylens.stats.clusters import Interval, delete_a_group, groups_of


@dataclass(frozen=True)
class Information:
    """Mutual information of two labels over the same tokens, in bits."""

    observed: float
    expected: float
    """Mean over draws of the null: what chance and bias give."""
    entropy: float
    """Of the label: the most there could be."""
    p: float
    """(1 + draws with as much) / (1 + draws)."""

    @property
    def adjusted(self) -> float:
        """Observed less expected, bits."""
        return self.observed - self.expected

    @property
    def normalized(self) -> float:
        """Adjusted over the label's entropy; NaN where the label is constant. Dividing by the
        smaller of both entropies would reward a collapsed router."""
        return self.adjusted / self.entropy if self.entropy > 0 else np.nan


def mutual_information(x: Int[np.ndarray, " n"], y: Int[np.ndarray, " n"]) -> float:
    """Plug-in mutual information of two labels, bits."""
    return entropy(x) + entropy(y) - entropy(_pair(x, y))


def _pair(x: Int[np.ndarray, " n"], y: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """One label for both."""
    return x * (int(y.max(initial=0)) + 1) + y


def entropy(x: Int[np.ndarray, " n"]) -> float:
    """Plug-in entropy of a label, bits."""
    _, counts = np.unique(x, return_counts=True)
    return float(stats.entropy(counts, base=2)) if len(counts) else 0.0


def informed(
    choice: Int[np.ndarray, " n"],
    label: Int[np.ndarray, " n"],
    draw: Callable[[np.random.Generator], Int[np.ndarray, " n"]],
    n_draws: int,
    given: Int[np.ndarray, " n"] | None = None,
) -> Information:
    """I(choice; label), or I(choice; label | given); `draw` gives the choices under the null."""
    if given is not None:
        # the chain rule: I(A; Y | X) = I(A; (X, Y)) - I(A; X), the last the same in every draw
        label = _pair(given, label)
    observed = mutual_information(choice, label)
    generator = np.random.default_rng(0)
    drawn = np.array([mutual_information(draw(generator), label) for _ in range(n_draws)])
    known = mutual_information(choice, given) if given is not None else 0.0
    p = (1 + (drawn >= observed - 1e-12).sum()) / (1 + n_draws)
    left = entropy(label) - (entropy(given) if given is not None else 0.0)
    return Information(observed - known, float(drawn.mean()) - known, left, float(p))


def information_interval(
    choice: Int[np.ndarray, " n"],
    label: Int[np.ndarray, " n"],
    window: Int[np.ndarray, " n"],
    found: Information,
    given: Int[np.ndarray, " n"] | None = None,
) -> Interval:
    """Interval of the adjusted information by leaving out groups of windows.

    The null's mean is taken as known: it moves far less than the information does.
    """
    if given is not None:
        label = _pair(given, label)
    group, n_groups = groups_of(window)
    if n_groups < 2:
        return Interval(found.adjusted, np.nan, np.nan)

    def without(y: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n_groups"]:
        parts = (_entropies_without(x, group, n_groups) for x in (choice, y, _pair(choice, y)))
        of_choice, of_label, of_both = parts
        return of_choice + of_label - of_both

    left = without(label)
    return delete_a_group(found.adjusted, left if given is None else left - without(given))


def _entropies_without(
    x: Int[np.ndarray, " n"], group: Int[np.ndarray, " n"], n_groups: int
) -> Float[np.ndarray, " n_groups"]:
    """Plug-in entropy with each group left out, bits."""
    _, code = np.unique(x, return_inverse=True)
    n = int(code.max()) + 1
    counts = np.bincount(code, minlength=n)
    rest = (counts - np.bincount(code[group == g], minlength=n) for g in range(n_groups))
    return np.array([stats.entropy(own[own > 0], base=2) for own in rest])


def shuffled_groups(
    choice: Int[np.ndarray, " n"], group: Int[np.ndarray, " n"]
) -> Callable[[np.random.Generator], Int[np.ndarray, " n"]]:
    """Draws that permute choices within groups: tokens of the same vocabulary id, say."""
    order = np.argsort(group, kind="stable")
    rank = np.unique(group, return_inverse=True)[1]

    def draw(generator: np.random.Generator) -> Int[np.ndarray, " n"]:
        # one sort by group and, below one, by chance: several times quicker than by two keys
        shuffled = np.argsort(rank + generator.random(len(choice)))
        out = np.empty_like(choice)
        out[order] = choice[shuffled]
        return out

    return draw


def rotated_windows(
    choice: Int[np.ndarray, " n"], window: Int[np.ndarray, " n"]
) -> Callable[[np.random.Generator], Int[np.ndarray, " n"]]:
    """Draws that rotate choices within each window, which keeps runs of the same choice. Tokens
    come window by window."""
    starts = np.flatnonzero(np.concatenate([[True], np.diff(window) != 0]))
    lengths = np.diff(np.concatenate([starts, [len(window)]]))
    begin, size = np.repeat(starts, lengths), np.repeat(lengths, lengths)
    place = np.arange(len(window)) - begin

    def draw(generator: np.random.Generator) -> Int[np.ndarray, " n"]:
        offset = np.repeat(generator.integers(0, lengths), lengths)
        return choice[begin + (place + offset) % size]

    return draw


@dataclass(frozen=True)
class RankCorrelation:
    """A partial Spearman correlation with a test clustered by window; NaN where undefined."""

    r: float
    t: float
    p: float


def partial_spearman(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    given: Float[np.ndarray, "n q"],
    window: Int[np.ndarray, " n"],
) -> RankCorrelation:
    """Rank correlation of x and y given covariates (by rank), t from sums over windows."""
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
    sums = np.bincount(window, product)
    sums = sums[np.unique(window)]
    t = float(product.sum() / np.sqrt(np.square(sums).sum()))
    p = float(2 * stats.t.sf(abs(t), max(len(sums) - 1, 1)))
    return RankCorrelation(float(product.sum()) / norm, t, p)


def omega_squared(values: Float[np.ndarray, " n"], choice: Int[np.ndarray, " n"]) -> float:
    """Share of the variance of `values` that the choice explains, less what chance explains
    (Hays, 1963); NaN where nothing varies."""
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
