"""What the weights of heads say by themselves (Elhage et al., 2021, A Mathematical Framework for
Transformer Circuits), never as a matrix of the vocabulary squared.

    QK = W_Q W_K^T      which source a destination attends to
    OV = W_V W_O        what a source then adds to the destination
    W_E W_U             the direct path: what a token alone says of the next

A product E A B U of a vocabulary's width has the eigenvalues of the small B U E A, and zeros.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.lens.circuits.weights import HeadWeights

_TINY = torch.finfo(torch.float32).tiny
N_RANDOM = 200
"""Random heads that the scores of a model's are held against."""
_N_DRAWN = 8
"""Random heads on each side of a composition."""
_CHUNK = 512
"""Tokens whose whole vocabulary is looked at together."""


@dataclass(frozen=True)
class EigenScores:
    """Sum of eigenvalues over the sum of their absolute values: 1 where all are positive."""

    scores: Float[Tensor, "layer head"]
    random_low: float
    random_high: float
    """What 95 % of heads with normally distributed weights of the same shapes lie between."""


def copying(weights: HeadWeights) -> EigenScores:
    """Of W_E W_V W_O W_U: above 0, a token that is attended to makes itself likelier."""
    through = weights.W_U @ weights.W_E
    return _eigen_scores(weights.W_V, weights.W_O, through)


def matching(weights: HeadWeights) -> EigenScores:
    """Of W_E W_Q W_K^T W_E^T, keys less their mean, which softmax does not see: above 0, a token
    attends to tokens like itself."""
    keys = weights.W_E - weights.W_E.mean(0)
    return _eigen_scores(weights.W_Q, weights.W_K.mT, keys.T @ weights.W_E)


def _eigen_scores(
    left: Float[Tensor, "layer head d_model d_head"],
    right: Float[Tensor, "layer head d_head d_model"],
    through: Float[Tensor, "d_model d_model"],
) -> EigenScores:
    generator = torch.Generator().manual_seed(0)
    shape = (N_RANDOM, left.shape[2], left.shape[3])
    drawn = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    random = eigen_score(drawn[1].mT @ through @ drawn[0])
    low, high = random.quantile(torch.tensor([0.025, 0.975])).tolist()
    return EigenScores(eigen_score(right @ through @ left), low, high)


def eigen_score(small: Float[Tensor, "*any d d"]) -> Float[Tensor, "*any"]:
    """Sum of the eigenvalues over the sum of their absolute values; 0 for a matrix of zeros."""
    values = torch.linalg.eigvals(small)
    return values.real.sum(-1) / values.abs().sum(-1).clamp_min(_TINY)


def bigrams(
    weights: HeadWeights, tokens: Int[Tensor, " n"], k: int
) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """The direct path of some tokens: the k next ones it raises most, and by how much in units of
    the final norm."""
    k = min(k, weights.W_U.shape[1])
    found = [(weights.W_E[part] @ weights.W_U).topk(k) for part in tokens.split(_CHUNK)]
    return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])


@dataclass(frozen=True)
class Composition:
    """How much of what heads write others read, for one way of reading."""

    how: str
    """Q, K or V: by which input the later head reads it."""
    scores: Float[Tensor, "layer head layer head"]
    """|A B| / (|A| |B|) in Frobenius norms, from the earlier to the later head; NaN where the
    later is in no later layer."""
    random: float
    """Its mean over random matrices of the same shapes, to be taken off."""


def compositions(weights: HeadWeights) -> list[Composition]:
    """Of every pair of heads of different layers, by queries, keys and values."""
    generator = torch.Generator().manual_seed(0)
    d_model, d_head = weights.W_Q.shape[2:]
    drawn = torch.randn(4, 1, 2 * _N_DRAWN, d_model, d_head, generator=generator)
    given = (weights.W_V, weights.W_O.mT), (weights.W_Q, weights.W_K)
    random = (drawn[0], drawn[1]), (drawn[2], drawn[3])
    layer = torch.arange(weights.n_layers)
    later = layer[:, None, None, None] < layer[None, None, :, None]
    found = []
    for how in ("Q", "K", "V"):
        scores, baseline = (_ratios(*_sides(how, *pair)) for pair in (given, random))
        mean = float(baseline[0, :_N_DRAWN, 0, _N_DRAWN:].mean())
        found.append(Composition(how, scores.where(later, torch.nan), mean))
    return found


_Pair = tuple[Tensor, Tensor]


def _sides(how: str, written: _Pair, compared: _Pair) -> tuple[_Pair, _Pair]:
    """The two low-rank matrices that are multiplied, each as what stands left and right in it."""
    if how == "V":
        return written, written
    return written, compared if how == "Q" else (compared[1], compared[0])


def _ratios(left: _Pair, right: _Pair) -> Float[Tensor, "layer head layer head"]:
    """|A B| / (|A| |B|) for A = a b^T and B = c d^T: only triangles of QR and b^T c are needed."""
    a, d = (torch.linalg.qr(part).R for part in (left[0], right[1]))
    own = (a @ torch.linalg.qr(left[1]).R.mT).norm(dim=(-2, -1))
    other = (d @ torch.linalg.qr(right[0]).R.mT).norm(dim=(-2, -1))
    rows = []
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            product = a[i, j] @ (left[1][i, j].mT @ right[0]) @ d.mT
            rows.append(product.norm(dim=(-2, -1)) / (own[i, j] * other).clamp_min(_TINY))
    return torch.stack(rows).unflatten(0, own.shape)
