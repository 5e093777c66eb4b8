"""Gains of features: what learns them, which are chosen, and what is said of what they do.

Features are told of by what each does in each text. With s_jf the sum over text j of z g, the mean
of z g over the tokens of some texts is minus the derivative of their mean energy by the feature's
gain, so its sign says which way to turn; its t, clustered by text, how sure that is.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from energylens.stats.clusters import MIN_TEXTS, Interval, clustered_mean
from energylens.stats.efas import Scores, cluster_t

_BLOCK = 1 << 24
"""Numbers of texts times features held at once."""


@dataclass(frozen=True)
class TextSums:
    """What each of J texts says of each of F features; text by text."""

    n_tokens: Int[np.ndarray, " J"]
    zg: sparse.csr_matrix
    """[J, F]: sum of z g, g = -dE/dz of all energies that follow."""
    z: sparse.csr_matrix
    n_active: sparse.csr_matrix
    power: sparse.csr_matrix
    """[J, F]: sum of squares of what the feature writes."""
    gradient: Float[np.ndarray, "J d"]
    """Sum of dE/dh where the SAE writes, in units of its output."""
    lens_zg: sparse.csr_matrix | None = None
    """As `zg`, of the lens energy of the token itself; None where the SAE does not write to the
    stream."""
    lens_gradient: Float[np.ndarray, "J d"] | None = None

    def of(self, texts: Bool[np.ndarray, " J"]) -> "TextSums":
        """The same of some texts alone."""
        kept = np.flatnonzero(texts)
        return TextSums(
            self.n_tokens[kept],
            self.zg[kept],
            self.z[kept],
            self.n_active[kept],
            self.power[kept],
            self.gradient[kept],
            None if self.lens_zg is None else self.lens_zg[kept],
            None if self.lens_gradient is None else self.lens_gradient[kept],
        )


@dataclass(frozen=True)
class Known:
    """What some texts say of each feature."""

    attribution: Float[np.ndarray, " F"]
    """Mean of z g over tokens, nats: minus the derivative of their mean energy by the gain."""
    t: Float[np.ndarray, " F"]
    """Of the attribution, clustered by text; NaN with fewer than MIN_TOKENS tokens or MIN_TEXTS
    texts: such features are never chosen."""
    t_efas: Float[np.ndarray, " F"]
    """Of the covariance of z and g, clustered by text."""
    t_efas_lens: Float[np.ndarray, " F"] | None
    """The same with the gradient of the token's lens energy, the store's own EFAS; None where the
    SAE does not write to the stream."""
    n_active: Float[np.ndarray, " F"]
    mean_active: Float[np.ndarray, " F"]
    """Mean activation where active; 0 where it never is."""
    power: Float[np.ndarray, " F"]
    """Mean over tokens of the squared norm of what it writes."""

    @property
    def tested(self) -> Int[np.ndarray, " k"]:
        """Features that may be chosen."""
        return np.flatnonzero(~np.isnan(self.t))


def learn(sums: TextSums, directions: Float[np.ndarray, "F d"]) -> Known:
    """What texts say of the features."""
    n = max(int(sums.n_tokens.sum()), 1)
    n_active, z, power = (_total(m) for m in (sums.n_active, sums.z, sums.power))
    attribution = _total(sums.zg) / n
    columns = sparse.csc_matrix(sums.zg)
    columns.sort_indices()
    feature = np.repeat(np.arange(len(n_active)), np.diff(columns.indptr))
    scores = Scores(feature, columns.indices.astype(np.int64), columns.data.astype(np.float64))
    found = cluster_t(scores, n_active, len(sums.n_tokens))
    t_efas = _t_efas(sums.zg, sums.gradient, sums, directions)
    t_lens = None
    if sums.lens_zg is not None and sums.lens_gradient is not None:
        t_lens = _t_efas(sums.lens_zg, sums.lens_gradient, sums, directions)
    return Known(
        attribution=attribution,
        t=found.t,
        t_efas=np.where(np.isnan(found.t), np.nan, t_efas),
        t_efas_lens=None if t_lens is None else np.where(np.isnan(found.t), np.nan, t_lens),
        n_active=n_active,
        mean_active=z / np.maximum(n_active, 1),
        power=power / n,
    )


def _total(matrix: sparse.csr_matrix) -> Float[np.ndarray, " F"]:
    return np.asarray(matrix.sum(axis=0), dtype=np.float64).ravel()


def _t_efas(
    sum_zg: sparse.csr_matrix,
    gradient: Float[np.ndarray, "J d"],
    sums: TextSums,
    directions: Float[np.ndarray, "F d"],
) -> Float[np.ndarray, " F"]:
    """t of the texts' sums of (z - mean z)(g - mean g), as `efas.t_efas` has it."""
    n_texts, size = len(sums.n_tokens), len(directions)
    n = max(int(sums.n_tokens.sum()), 1)
    t = np.full(size, np.nan)
    if n_texts < MIN_TEXTS:
        return t
    width = max(1, _BLOCK // n_texts)
    for first in range(0, size, width):
        part = slice(first, first + width)
        zg, z = (sparse.csr_matrix(m[:, part]).toarray() for m in (sum_zg, sums.z))
        g = -(gradient @ directions[part].T)
        mean_z, mean_g = z.sum(axis=0) / n, g.sum(axis=0) / n
        s = zg - mean_z * g - mean_g * z + sums.n_tokens[:, None] * (mean_z * mean_g)
        square = np.square(s).sum(axis=0)
        t[part] = s.sum(axis=0) / np.sqrt(np.where(square > 0, square, np.nan))
    return t


def halvings(n_texts: int, n_splits: int, seed: int) -> list[Bool[np.ndarray, " n_texts"]]:
    """Which texts each split learns on; the others judge. Splits come in pairs that learn and judge
    with the same two halves the other way round, so that every text judges as often as it can."""
    found = []
    for split in range(n_splits):
        drawn = np.random.default_rng((seed, split // 2)).permutation(n_texts)
        first = np.zeros(n_texts, dtype=bool)
        first[drawn[: n_texts // 2]] = True
        found.append(first if split % 2 == 0 else ~first)
    return found


def strongest(by: Float[np.ndarray, " F"], n: int, known: Known) -> Int[np.ndarray, " n"]:
    """The n tested features with the largest figure; ties by number."""
    tested = known.tested
    order = np.argsort(-np.nan_to_num(by[tested], nan=-np.inf), kind="stable")
    return tested[order[:n]]


def signed_gains(
    features: Int[np.ndarray, " n"], known: Known, step: float
) -> Float[np.ndarray, " F"]:
    """Each feature turned by `step`, the way its attribution says lowers the energy."""
    gains = np.zeros(len(known.attribution))
    gains[features] = step * np.sign(known.attribution[features])
    return gains


def matched_gains(gains: Float[np.ndarray, " F"], known: Known) -> Float[np.ndarray, " F"]:
    """The gains of some features given to as many others, each most like its own in rate and in
    power (distance of logarithms, in their deviations over the tested features); a control. Those
    that find no partner any more are left out."""
    tested = known.tested
    place = np.zeros((len(gains), 2))
    place[tested] = np.log([known.n_active[tested], np.maximum(known.power[tested], 1e-30)]).T
    spread = place[tested].std(axis=0)
    place = place / np.where(spread > 0, spread, 1.0)
    free = [int(f) for f in tested if gains[f] == 0]
    found = np.zeros_like(gains)
    for feature in np.flatnonzero(gains):
        if not free:
            break
        distance = np.square(place[free] - place[feature]).sum(axis=1)
        found[free.pop(int(distance.argmin()))] = gains[feature]
    return found


def random_signs(gains: Float[np.ndarray, " F"], seed: int) -> Float[np.ndarray, " F"]:
    """The same features turned as far, each up or down at random: a null."""
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], len(gains))
    return np.abs(gains) * signs


def judged(change: Float[np.ndarray, " n"], text: Int[np.ndarray, " n"]) -> Interval:
    """Mean change of the energy over the tokens that judge one split, with its 95 % interval by
    text: of the gains as they were learned."""
    return clustered_mean(change, text)


def together(splits: list[Interval]) -> Interval:
    """Several splits as one figure: the mean of their values, with the mean of what their
    intervals reach to either side.

    Splits share texts, so their errors go together in an unknown way. The standard error of a mean
    of figures is never above the mean of their standard errors, whatever their correlation: the
    interval is too wide rather than too narrow. It is of what gains learned on these halves do to
    texts like the judging ones.
    """
    value, low, high = (
        float(np.mean([getattr(one, name) for one in splits])) for name in ("value", "low", "high")
    )
    return Interval(value, low, high)
