"""Which earlier tokens made a feature of an attention-output SAE fire, through which heads.

What attention writes at a destination is a sum over heads and sources, A_ts v_s W_O (or A_ts v_s
where the SAE reads the heads before W_O). Where a feature is active, its activation is the gradient
by its input times that sum, and a rest of biases: each term is one head's and one source's share.
The sum is exact, with the attention as it was, for every SAE whose active features are linear in
their input; one that scales each input by itself is linear only close by.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.errors import ModelError, SaeError
from energylens.lens.circuits.patterns import LayerHeads, read_patterns
from energylens.lens.circuits.weights import read_heads
from energylens.lens.gate import encode_tokens
from energylens.lens.models import LanguageModel, read_hooks
from energylens.lens.saes import Sae
from energylens.mesanet.hooked import HookedMesaNet


@dataclass(frozen=True)
class SourceShares:
    """What a feature's activation at a destination is made of."""

    activation: float
    shares: Float[Tensor, "head source"]
    """By head and source, the destination itself last."""
    rest: float
    """What is no source's: biases of the SAE and of the heads."""


def source_shares(
    model: LanguageModel, sae: Sae, ids: Int[Tensor, " pos"], position: int, feature: int
) -> SourceShares:
    """Take one activation apart.

    Raises:
        SaeError: the SAE does not read what attention puts out, or the feature is silent there.
        ModelError: the model has no heads that are read.
    """
    if isinstance(model.bridge, HookedMesaNet):
        raise ModelError("mesa heads are normed after they are summed: no source has a share")
    place = f"blocks.{sae.layer}."
    if sae.hook_name not in (f"{place}attn.hook_z", f"{place}hook_attn_out"):
        raise SaeError(
            f"'{sae.sae_id}' reads {sae.hook_name}, not what attention puts out: attn.hook_z or "
            "hook_attn_out of a block"
        )
    weights, batch = read_heads(model), ids[None]
    mask = torch.ones_like(batch, dtype=torch.bool)
    shown: list[LayerHeads] = []
    read_patterns(model, weights, batch, mask, shown.append, sae.layer)
    cache = read_hooks(model, batch, [sae.hook_name])
    activation, gradient = _slope(sae, cache[sae.hook_name], position, feature)
    if activation == 0:
        raise SaeError(f"feature {feature} of '{sae.sae_id}' is silent at position {position}")
    heads = shown[sae.layer]
    values = heads.values[0, : position + 1]
    if sae.hook_name.endswith("hook_z"):
        by_head = gradient.reshape(values.shape[1:])
    else:
        bridge: Any = model.bridge
        by_head = bridge.W_O[sae.layer].detach().float() @ gradient.flatten()
    read = torch.einsum("she,he->hs", values, by_head)
    shares = heads.pattern[0, :, position, : position + 1] * read
    return SourceShares(activation, shares, activation - float(shares.sum()))


def _slope(
    sae: Sae, value: Float[Tensor, "1 pos *hook"], position: int, feature: int
) -> tuple[float, Tensor]:
    """A feature's activation at a position, and its derivative by the hook's value there."""
    given = value.detach().clone().requires_grad_(True)
    mask = torch.ones(value.shape[:2], dtype=torch.bool)
    with torch.enable_grad():
        activation = encode_tokens(sae, given, mask)[position, feature]
        (gradient,) = torch.autograd.grad(activation, given)
    return float(activation.detach()), gradient[0, position].float()
