"""EFAS: how a feature's activation goes with the negative energy gradient along its direction.

With z the activation of feature f at a token and g = -dE/dz = -a . d_f, where a = dE/dh and d_f is
the decoder direction, EFAS_f is the Pearson correlation of z and g over all valid tokens, active or
not. It splits exactly into `gate` (does g differ where f is active?) and `dose` (does it grow with
z there?). g is needed at the non-zeros only: its moments over all tokens follow from those of a.

A value other than zero says that the read-out is miscalibrated along the feature when it is active
(positive: under-used; negative: over-used). Under a calibrated read-out E[a | h] = 0, so that every
EFAS is zero, however important the feature.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import stats

from energylens.stats.clusters import MIN_TEXTS

MIN_TOKENS = 30
"""Active tokens a feature needs to be tested; it needs MIN_TEXTS texts too."""

_BLOCK = 1 << 23
"""Signs held at once."""
_CONSTANT = 1e-12
"""A variance below this share of the mean square is rounding."""


@dataclass(frozen=True)
class Sums:
    """Sums of F features over n_tokens valid tokens, of those active over the active ones."""

    n_tokens: int
    n_active: Float[np.ndarray, " F"]
    z: Float[np.ndarray, " F"]
    zz: Float[np.ndarray, " F"]
    zg: Float[np.ndarray, " F"]
    g_active: Float[np.ndarray, " F"]
    gg_active: Float[np.ndarray, " F"]
    g: Float[np.ndarray, " F"]
    """Over all valid tokens, as `gg`."""
    gg: Float[np.ndarray, " F"]


@dataclass(frozen=True)
class Alignment:
    """EFAS and what it is made of; NaN where a feature or its gradient is silent or constant."""

    efas: Float[np.ndarray, " F"]
    """Pearson correlation of z and g over all valid tokens."""
    gate: Float[np.ndarray, " F"]
    """Correlation of being active with g."""
    dose: Float[np.ndarray, " F"]
    """Correlation of z and g over the active tokens."""
    smd: Float[np.ndarray, " F"]
    """Mean g where active less mean g where not, in standard deviations of g."""
    attribution: Float[np.ndarray, " F"]
    """Mean of z g over all tokens, nats: first-order rise of the energy when f is ablated."""
    mean_gradient: Float[np.ndarray, " F"]
    std_gradient: Float[np.ndarray, " F"]
    std_activation: Float[np.ndarray, " F"]


def align(sums: Sums) -> Alignment:
    """Correlations from sums."""
    n = max(sums.n_tokens, 1)
    mean_z, mean_g = sums.z / n, sums.g / n
    std_z = np.sqrt(_variance(sums.zz / n, mean_z))
    std_g = np.sqrt(_variance(sums.gg / n, mean_g))
    active = np.where(sums.n_active > 0, sums.n_active, np.nan)
    z_a, g_a = sums.z / active, sums.g_active / active
    std_za = np.sqrt(_variance(sums.zz / active, z_a))
    std_ga = np.sqrt(_variance(sums.gg_active / active, g_a))
    rate = sums.n_active / n
    with np.errstate(divide="ignore", invalid="ignore"):
        silent = (n - sums.n_active) > 0
        g_rest = np.where(silent, (sums.g - sums.g_active) / (n - sums.n_active), np.nan)
        spread = np.sqrt(rate * (1 - rate))
        return Alignment(
            efas=_clip((sums.zg / n - mean_z * mean_g) / (std_z * std_g)),
            gate=_clip((g_a - g_rest) * spread / std_g),
            dose=_clip((sums.zg / active - z_a * g_a) / (std_za * std_ga)),
            smd=(g_a - g_rest) / std_g,
            attribution=sums.zg / n,
            mean_gradient=mean_g,
            std_gradient=std_g,
            std_activation=std_z,
        )


@dataclass(frozen=True)
class Scores:
    """Text scores of features: s_jf, the sum over text j of z times the centred g.

    Only texts in which a feature is active have one; the rest are zero.
    """

    feature: Int[np.ndarray, " pairs"]
    text: Int[np.ndarray, " pairs"]
    score: Float[np.ndarray, " pairs"]


@dataclass(frozen=True)
class ClusterT:
    """The cluster-robust t of each feature, texts its clusters."""

    t: Float[np.ndarray, " F"]
    """NaN where the feature is in fewer than MIN_TEXTS texts or on fewer than MIN_TOKENS."""
    p: Float[np.ndarray, " F"]
    low: Float[np.ndarray, " F"]
    """Lower end of the 95 % interval of the sum of the scores; NaN where t is."""
    high: Float[np.ndarray, " F"]
    total: Float[np.ndarray, " F"]
    """Sum of the scores."""
    n_texts: Int[np.ndarray, " F"]
    """Texts the feature is active in."""


def text_scores(
    feature: Int[np.ndarray, " nnz"],
    text: Int[np.ndarray, " nnz"],
    z: Float[np.ndarray, " nnz"],
    g_centred: Float[np.ndarray, " nnz"],
) -> Scores:
    """Scores from codes in the order (feature, text)."""
    if not len(feature):
        return Scores(feature, text, np.zeros(0))
    new = np.concatenate([[True], (np.diff(feature) != 0) | (np.diff(text) != 0)])
    first = np.flatnonzero(new)
    return Scores(feature[first], text[first], np.add.reduceat(z * g_centred, first))


def cluster_t(scores: Scores, n_active: Float[np.ndarray, " F"], n_texts: int) -> ClusterT:
    """t = sum_j s_j / sqrt(sum_j s_j^2), p from Student's t. The interval takes the mean score off
    each of the n_texts scores, since under signal it is no part of their spread.

    Degrees of freedom are the texts the feature is active in less one: the others have no score,
    and t cannot exceed the root of the number that have one.
    """
    size = len(n_active)
    total = np.bincount(scores.feature, scores.score, size).astype(float)  # of none: integers
    square = np.bincount(scores.feature, np.square(scores.score), size)
    own_texts = np.bincount(scores.feature, minlength=size)
    tested = (n_active >= MIN_TOKENS) & (own_texts >= MIN_TEXTS) & (square > 0)
    degrees = np.where(tested, own_texts - 1.0, np.nan)
    t = total / np.sqrt(np.where(tested, square, np.nan))
    n = max(n_texts, 2)
    spread = np.sqrt(np.maximum(square - np.square(total) / n, 0) * n / (n - 1))
    reach = stats.t.ppf(0.975, degrees) * spread
    p = 2 * stats.t.sf(np.abs(t), degrees)
    return ClusterT(t, p, total - reach, total + reach, total, own_texts)


def t_of_sums(
    sums: Float[np.ndarray, "F n_texts"], is_tested: Bool[np.ndarray, " F"]
) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, " F"]]:
    """t and p of the sum over texts of centred products, where every text has one."""
    n = sums.shape[1]
    square = np.square(sums).sum(axis=1)
    tested = is_tested & (n >= MIN_TEXTS) & (square > 0)
    t = sums.sum(axis=1) / np.sqrt(np.where(tested, square, np.nan))
    return t, 2 * stats.t.sf(np.abs(t), max(n - 1, 1))


class SignFlips:
    """Random sign flips of text scores, the same for every feature (Hemerik, Goeman and Finos,
    2020): p of each feature, and family-wise p from the largest |t| of each flip.

    Features come in as many calls as one likes; memory holds one block of flips.
    """

    def __init__(self, n_texts: int, n_flips: int, seed: int = 0) -> None:
        self.n_texts, self.n_flips, self._seed = n_texts, n_flips, seed
        self._largest = np.zeros(n_flips)

    def p(self, scores: Scores, t: Float[np.ndarray, " F"]) -> Float[np.ndarray, " F"]:
        """(1 + flips with |t| at least as large) / (1 + flips); NaN where t is."""
        tested = np.flatnonzero(~np.isnan(t))
        if not len(tested) or not self.n_flips:
            return np.full(len(t), np.nan)
        place = np.full(len(t), -1)
        place[tested] = np.arange(len(tested))
        kept = place[scores.feature] >= 0
        dense = np.zeros((self.n_texts, len(tested)), dtype=np.float32)
        dense[scores.text[kept], place[scores.feature[kept]]] = scores.score[kept]
        norms = np.sqrt(np.square(dense, dtype=np.float64).sum(axis=0))
        dense /= norms.astype(np.float32)
        bound = np.abs(t[tested]) * (1 - 1e-6)  # ties count, rounding must not undo them
        exceed = np.zeros(len(tested), dtype=np.int64)
        step = min(self.n_flips, max(16, min(1024, _BLOCK // self.n_texts)))
        for number, first in enumerate(range(0, self.n_flips, step)):
            n = min(step, self.n_flips - first)
            generator = np.random.default_rng([self._seed, number])  # the same in every call
            signs = generator.integers(0, 2, (n, self.n_texts), dtype=np.int8)
            flipped = np.abs((2 * signs - 1).astype(np.float32) @ dense)
            exceed += (flipped >= bound).sum(axis=0)
            largest = self._largest[first : first + n]
            np.maximum(largest, flipped.max(axis=1), out=largest)
        found = np.full(len(t), np.nan)
        found[tested] = (1 + exceed) / (1 + self.n_flips)
        return found

    def familywise(self, t: Float[np.ndarray, " F"]) -> Float[np.ndarray, " F"]:
        """p adjusted for all features that `p` has seen: share of flips whose largest |t| reaches
        this one. Call it when all have been."""
        if not self.n_flips:
            return np.full(len(t), np.nan)
        ordered = np.sort(self._largest)
        above = self.n_flips - np.searchsorted(ordered, np.abs(t) * (1 - 1e-6), side="left")
        return np.where(np.isnan(t), np.nan, (1 + above) / (1 + self.n_flips))


def adjust_for(
    sums: Sums,
    zx: Float[np.ndarray, "F q"],
    gx: Float[np.ndarray, "F q"],
    xx: Float[np.ndarray, "q q"],
) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, "F q"]]:
    """Partial correlation of z and g given covariates x (a constant among them), and the
    coefficients of g on x: what to take off g for a test of it."""
    inverse = np.linalg.pinv(xx, hermitian=True)
    beta = gx @ inverse
    covariance = sums.zg - np.einsum("fq,fq->f", zx, beta)
    left_z = sums.zz - np.einsum("fq,fq->f", zx @ inverse, zx)
    left_g = sums.gg - np.einsum("fq,fq->f", beta, gx)
    left_z = np.where(left_z > _CONSTANT * sums.zz, left_z, np.nan)
    left_g = np.where(left_g > _CONSTANT * sums.gg, left_g, np.nan)
    return _clip(covariance / np.sqrt(left_z * left_g)), beta


def _variance(
    mean_square: Float[np.ndarray, " F"], mean: Float[np.ndarray, " F"]
) -> Float[np.ndarray, " F"]:
    variance = mean_square - np.square(mean)
    return np.where(variance > _CONSTANT * mean_square, variance, np.nan)


def _clip(r: Float[np.ndarray, " F"]) -> Float[np.ndarray, " F"]:
    return np.clip(r, -1.0, 1.0)
