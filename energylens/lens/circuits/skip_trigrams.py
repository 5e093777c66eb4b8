"""Skip-trigrams of a head: "source ... destination -> out" (Elhage et al., 2021).

The strength is how much more the destination attends to the source than to the mean token, times
what the source then adds to the logit of `out`, both positive: the largest are found exactly, one
block of sources at a time.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.lens.circuits.weights import HeadWeights

_CHUNK = 256
"""Sources looked at together."""


@dataclass(frozen=True)
class SkipTrigram:
    """One of them, as vocabulary ids."""

    source: int
    destination: int
    out: int
    score: float
    """Of the destination's query and the source's key, above that of the mean token."""
    logit: float
    """What the source adds to the logit of `out`, in units of the final norm."""

    @property
    def strength(self) -> float:
        return self.score * self.logit


def skip_trigrams(
    weights: HeadWeights, layer: int, head: int, tokens: Int[Tensor, " n"], k: int
) -> list[SkipTrigram]:
    """The k strongest, sources and destinations among `tokens`, outs in the whole vocabulary.

    For a source, the k largest products are among those of its k best destinations and k best outs;
    a source whose best product is below the k-th found so far has none.
    """
    read = weights.W_E[tokens]
    queries = read @ weights.W_Q[layer, head] / weights.d_head**0.5
    keys = read @ weights.W_K[layer, head]
    keys = keys - keys.mean(0)
    values = read @ weights.W_V[layer, head]
    write = weights.W_O[layer, head] @ weights.W_U
    bound = torch.cat(
        [
            (keys[part] @ queries.T).amax(1).clamp_min(0)
            * (values[part] @ write).amax(1).clamp_min(0)
            for part in torch.arange(len(tokens)).split(_CHUNK)
        ]
    )
    found: list[SkipTrigram] = []
    order = bound.argsort(descending=True, stable=True)
    for part in order.split(_CHUNK):
        if float(bound[part[0]]) <= (found[-1].strength if len(found) == k else 0.0):
            break
        found += _of_sources(keys[part] @ queries.T, values[part] @ write, tokens, part, k)
        found = sorted(found, key=lambda one: -one.strength)[:k]
    return found


def _of_sources(
    attention: Float[Tensor, "source destination"],
    logits: Float[Tensor, "source out"],
    tokens: Int[Tensor, " n"],
    sources: Int[Tensor, " source"],
    k: int,
) -> list[SkipTrigram]:
    by_destination = attention.topk(min(k, attention.shape[1]))
    by_out = logits.topk(min(k, logits.shape[1]))
    product = (
        by_destination.values.clamp_min(0)[:, :, None] * by_out.values.clamp_min(0)[:, None, :]
    )
    best = product.flatten().topk(min(k, product.numel()))
    found = []
    for value, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        row, rest = divmod(place, product.shape[1] * product.shape[2])
        destination, out = divmod(rest, product.shape[2])
        if value > 0:
            found.append(
                SkipTrigram(
                    source=int(tokens[sources[row]]),
                    destination=int(tokens[by_destination.indices[row, destination]]),
                    out=int(by_out.indices[row, out]),
                    score=float(by_destination.values[row, destination]),
                    logit=float(by_out.values[row, out]),
                )
            )
    return found
