"""Log-linear attention's mathematics (Guo et al., 2025, arXiv 2506.04761), one head at a time.

    o_t = sum over levels l of lambda_t^l (S_t^l)^T q_t
    S_t^l = sum over s in bucket l of gamma_(s+1) ... gamma_t beta_s k_s v_s^T

The tokens before t are cut into buckets as in a Fenwick tree: t alone is level 0, and s < t is of
level l if the highest bit in which their places differ is the l-th, so that near tokens are told
apart and far ones share a state. What each level is worth to a token, lambda, the token says.
`log_linear_weights` writes all positions as one matrix; `log_linear_step` goes on from a state with
one matrix a level, which is what generation keeps.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.mesanet.solver import MixerInputs


@dataclass(frozen=True)
class LogLinearInputs(MixerInputs):
    """What the layer reads."""

    scales: Float[Tensor, "batch heads pos levels"]
    """lambda."""
    place: Int[Tensor, "batch pos"]
    """Position among the real tokens, from 0."""


@dataclass(frozen=True)
class LogLinearState:
    """All that later positions need of earlier ones."""

    levels: Float[Tensor, "batch heads levels d_head d_head"]
    """S, a level."""
    place: Int[Tensor, " batch"]
    """Of the last real token, by which the levels are cut."""


def n_levels(n_ctx: int) -> int:
    """Levels that tell all places of a context apart; farther ones share the last."""
    return max(n_ctx - 1, 1).bit_length() + 1


def level_of(place: Int[Tensor, "..."], earlier: Int[Tensor, "..."], n: int) -> Int[Tensor, "..."]:
    """The level, below n, of which an earlier place is to a later one; 0 is the place itself.
    The two are broadcast."""
    differing = torch.bitwise_xor(place, earlier).double()
    return torch.frexp(differing).exponent.long().clamp_max(n - 1)


def log_linear_weights(inputs: LogLinearInputs) -> Float[Tensor, "batch heads pos pos"]:
    """The weight of every earlier position's value, 0 for later ones; may be negative."""
    scales, place = inputs.scales, inputs.place
    n = place.shape[1]
    level = level_of(place[:, :, None], place[:, None, :], scales.shape[-1])
    worth = scales.gather(-1, level[:, None].expand(-1, scales.shape[1], -1, -1))
    summed = inputs.log_gamma.cumsum(-1)
    kept = summed[..., :, None] - summed[..., None, :]
    later = torch.ones(n, n, dtype=torch.bool, device=place.device).triu(1)
    kept = kept.masked_fill(later, -torch.inf).exp()
    return inputs.q @ inputs.k.mT * worth * kept * inputs.beta[..., None, :]


def state_after(inputs: LogLinearInputs) -> LogLinearState:
    """The state after the last position, where nothing came before the first."""
    last, n = inputs.place[:, -1], inputs.scales.shape[-1]
    level = level_of(last[:, None].expand_as(inputs.place), inputs.place, n)
    summed = inputs.log_gamma.cumsum(-1)
    kept = (summed[..., -1:] - summed).exp() * inputs.beta
    own = torch.nn.functional.one_hot(level, n).to(kept.dtype)
    keys = kept[..., None] * inputs.k
    return LogLinearState(
        torch.einsum("bsl,bhsk,bhsv->bhlkv", own, keys, inputs.v), inputs.place[:, -1]
    )


def log_linear_step(
    inputs: LogLinearInputs, state: LogLinearState
) -> tuple[Float[Tensor, "batch heads 1 d_head"], LogLinearState]:
    """The next position, one a row, and the state after it.

    From one place to a later one, all levels beneath that of the older place become one with it.
    """
    n, place = inputs.scales.shape[-1], inputs.place[:, -1]
    target = level_of(place, state.place, n)[:, None, None, None, None]
    lanes = torch.arange(n, device=place.device)[None, None, :, None, None]
    levels = state.levels * inputs.log_gamma[..., 0].exp()[..., None, None, None]
    beneath = levels * (lanes < target)
    levels = levels - beneath + beneath.sum(2, keepdim=True) * (lanes == target)
    written = inputs.beta[..., 0, None, None] * inputs.k.mT * inputs.v
    levels = torch.cat([levels[:, :, :1] + written[:, :, None], levels[:, :, 1:]], dim=2)
    out = torch.einsum("bhk,bhlkv,bhl->bhv", inputs.q[:, :, 0], levels, inputs.scales[:, :, 0])
    return out[:, :, None], LogLinearState(levels, place)
