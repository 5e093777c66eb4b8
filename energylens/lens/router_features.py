"""Features of an SAE as the rows that a router of a MesaNet reads."""

import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.errors import SaeError
from energylens.lens.saes import Sae
from energylens.mesanet.features import FeatureRows

_STREAM = re.compile(r"blocks\.(\d+)\.hook_resid_(pre|post)")
_ALONE = ("standard", "jumprelu")
"""Architectures whose features do not depend on each other."""


def block_after(sae: Sae, n_layers: int) -> int:
    """The block before which an SAE reads the stream.

    Raises:
        SaeError: it reads elsewhere, or after the last block.
    """
    found = _STREAM.fullmatch(sae.hook_name)
    layer = -1 if found is None else int(found[1]) + (found[2] == "post")
    if not 0 <= layer < n_layers:
        raise SaeError(
            f"a router sees the stream before its block, and the SAE '{sae.sae_id}' reads "
            f"'{sae.hook_name}' of {n_layers} blocks; take one at blocks.0.hook_resid_post to "
            f"blocks.{n_layers - 2}.hook_resid_post"
        )
    return layer


def feature_rows(sae: Sae, features: Sequence[int], scale: Float[Tensor, " n"]) -> FeatureRows:
    """Some features by themselves; `scale` is the activation of each where it is active.

    Raises:
        SaeError: its features cannot be read one by one.
    """
    module = sae.module
    scales_input = module.cfg.normalize_activations in ("layer_norm", "constant_norm_rescale")
    if sae.architecture not in _ALONE or scales_input:
        why = "scales each input" if scales_input else f"is a {sae.architecture} SAE"
        raise SaeError(
            f"routers read features one by one, and the SAE '{sae.sae_id}' {why}; train one with "
            "--arch batchtopk, jumprelu or standard, which are kept as such"
        )
    chosen = torch.tensor(features, dtype=torch.long)
    encoder = module.W_enc.detach().float().T[chosen]
    bias = module.b_enc.detach().float()[chosen]
    if module.cfg.apply_b_dec_to_input:
        bias = bias - encoder @ module.b_dec.detach().float()
    if sae.centring:
        encoder = encoder - encoder.mean(-1, keepdim=True)
    threshold = torch.zeros(len(chosen))
    if sae.architecture == "jumprelu":
        threshold = module.threshold.detach().float()[chosen].clamp_min(0.0)
    return FeatureRows(encoder, bias, threshold, scale.float())
