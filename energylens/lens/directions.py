"""What can be read off an SAE's decoder without any text: logit weights and neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.lens.readout import ReadOut
from energylens.lens.saes import Sae

_CHUNK_NUMBERS = 1 << 24
N_BINS = 40
"""Of the histogram of a feature's logit weights."""


@dataclass(frozen=True)
class Extremes:
    """For features `first`, `first + 1`, ...: the k most extreme entries of a long row each, and
    how all entries of the row are distributed."""

    first: int
    top_ids: Int[Tensor, "n k"]
    top_values: Float[Tensor, "n k"]
    bottom_ids: Int[Tensor, "n k"]
    bottom_values: Float[Tensor, "n k"]
    spread: "Spread"


@dataclass(frozen=True)
class Spread:
    """How the entries of each of some rows are distributed: moments, and counts of equal bins from
    the row's lowest to its highest entry. Skewness and kurtosis are the third and fourth
    standardised moments of all entries (kurtosis 3 for a normal distribution); NaN where all are
    equal."""

    mean: Float[Tensor, " n"]
    std: Float[Tensor, " n"]
    skewness: Float[Tensor, " n"]
    kurtosis: Float[Tensor, " n"]
    counts: Int[Tensor, "n n_bins"]


def spread_of(
    rows: Float[Tensor, "n m"], low: Float[Tensor, " n"], high: Float[Tensor, " n"], n_bins: int
) -> Spread:
    """`low` and `high` are the extremes of each row."""
    n = len(rows)
    mean = rows.mean(1)
    centred = rows - mean[:, None]
    square = centred.square()
    variance = square.mean(1)
    third = (square * centred).mean(1)
    fourth = square.square_().mean(1)
    scale = n_bins / (high - low).clamp_min(torch.finfo(rows.dtype).tiny)
    bins = centred.sub_((low - mean)[:, None]).mul_(scale[:, None]).clamp_(0, n_bins - 1).int()
    bins += (torch.arange(n, dtype=torch.int32) * n_bins)[:, None]
    counts = torch.bincount(bins.reshape(-1), minlength=n * n_bins).reshape(n, n_bins)
    return Spread(mean, variance.sqrt(), third / variance**1.5, fourth / variance.square(), counts)


@torch.no_grad()
def logit_weights(
    readout: ReadOut,
    W_dec: Float[Tensor, "d_sae d_model"],
    k: int,
    vocab_mask: Bool[Tensor, " d_vocab"],
) -> Iterator[Extremes]:
    """Tokens each decoder direction promotes and suppresses most, a chunk of features at a time.

    The direction goes through the final norm's gain (centred first for LayerNorm) and the
    unembedding; the mean over the vocabulary is taken off, which no softmax can see. The norm's
    scale is left out: it differs from token to token. Entries `vocab_mask` excludes are padding
    rows and unused tokens.
    """
    norm = readout.norm
    weights = norm.gain[:, None] * readout.W_U
    weights = (weights - weights.mean(1, keepdim=True)) * readout.logit_scale
    kept = vocab_mask.nonzero()[:, 0]
    weights = weights[:, kept]
    rows = max(1, _CHUNK_NUMBERS // readout.d_vocab)
    k = min(k, len(kept))
    for first in range(0, W_dec.shape[0], rows):
        logits = norm.centre(W_dec[first : first + rows]) @ weights
        top, bottom = logits.topk(k), logits.topk(k, largest=False)
        spread = spread_of(logits, bottom.values[:, 0], top.values[:, 0], N_BINS)
        yield Extremes(
            first, kept[top.indices], top.values, kept[bottom.indices], bottom.values, spread
        )


@torch.no_grad()
def neighbours(
    W_dec: Float[Tensor, "d_sae d_out"], k: int
) -> Iterator[tuple[int, Int[Tensor, "n k"], Float[Tensor, "n k"]]]:
    """First feature, neighbours and cosines: the k closest other decoder directions of each."""
    d_sae = W_dec.shape[0]
    k = min(k, d_sae - 1)
    unit = W_dec / W_dec.norm(dim=1, keepdim=True).clamp_min(1e-12)
    rows = max(1, _CHUNK_NUMBERS // d_sae)
    for first in range(0, d_sae, rows):
        cosine = unit[first : first + rows] @ unit.T
        own = torch.arange(first, min(first + rows, d_sae))
        cosine[torch.arange(len(own)), own] = -torch.inf
        best = cosine.topk(k)
        yield first, best.indices, best.values


def read_directions(sae: Sae) -> Float[Tensor, "d_sae d_in"] | None:
    """What each feature's activation grows along, where the encoder is one matrix; None where it is
    not. Centred, where the SAE takes the mean off its input."""
    weights = getattr(sae.module, "W_enc", None)
    if not isinstance(weights, Tensor) or weights.shape != (sae.d_in, sae.d_sae):
        return None
    read = weights.detach().float().T
    return read - read.mean(dim=1, keepdim=True) if sae.centring else read


@torch.no_grad()
def readers(
    W_dec: Float[Tensor, "d_sae d_out"], read: Float[Tensor, "d_other d_out"], k: int
) -> Iterator[tuple[int, Int[Tensor, "n k"], Float[Tensor, "n k"]]]:
    """First feature, readers and cosines: the k features of another SAE whose encoder directions
    are closest to each decoder direction."""
    k = min(k, len(read))
    write, there = (d / d.norm(dim=1, keepdim=True).clamp_min(1e-12) for d in (W_dec, read))
    rows = max(1, _CHUNK_NUMBERS // len(read))
    for first in range(0, len(write), rows):
        best = (write[first : first + rows] @ there.T).topk(k)
        yield first, best.indices, best.values


@torch.no_grad()
def mean_max_cosine(one: Float[Tensor, "n d_out"], other: Float[Tensor, "m d_out"]) -> float:
    """For each direction of `one` the largest cosine with a direction of `other`, on average: 1
    where `other` has them all. It is not the same the other way round."""
    there = other / other.norm(dim=1, keepdim=True).clamp_min(1e-12)
    here = one / one.norm(dim=1, keepdim=True).clamp_min(1e-12)
    rows = max(1, _CHUNK_NUMBERS // len(there))
    best = [(part @ there.T).max(1).values for part in here.split(rows)]
    return float(torch.cat(best).double().mean())
