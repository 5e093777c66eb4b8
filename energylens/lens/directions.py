"""What can be read off an SAE's decoder without any text: logit weights and neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.lens.readout import ReadOut

_CHUNK_NUMBERS = 1 << 24


@dataclass(frozen=True)
class Extremes:
    """For features `first`, `first + 1`, ...: the k most extreme entries of a long row each."""

    first: int
    top_ids: Int[Tensor, "n k"]
    top_values: Float[Tensor, "n k"]
    bottom_ids: Int[Tensor, "n k"]
    bottom_values: Float[Tensor, "n k"]


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
    rows = max(1, _CHUNK_NUMBERS // readout.d_vocab)
    k = min(k, int(vocab_mask.sum()))
    for first in range(0, W_dec.shape[0], rows):
        logits = norm.centre(W_dec[first : first + rows]) @ weights
        logits[:, ~vocab_mask] = torch.nan
        top = torch.where(logits.isnan(), -torch.inf, logits).topk(k)
        bottom = torch.where(logits.isnan(), torch.inf, logits).topk(k, largest=False)
        yield Extremes(first, top.indices, top.values, bottom.indices, bottom.values)


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


@torch.no_grad()
def mean_max_cosine(one: Float[Tensor, "n d_out"], other: Float[Tensor, "m d_out"]) -> float:
    """For each direction of `one` the largest cosine with a direction of `other`, on average: 1
    where `other` has them all. It is not the same the other way round."""
    there = other / other.norm(dim=1, keepdim=True).clamp_min(1e-12)
    here = one / one.norm(dim=1, keepdim=True).clamp_min(1e-12)
    rows = max(1, _CHUNK_NUMBERS // len(there))
    best = [(part @ there.T).max(1).values for part in here.split(rows)]
    return float(torch.cat(best).double().mean())
