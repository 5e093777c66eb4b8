"""A pass in which tokens stop early: only those still going are computed, block by block.

Mixers still hear every real token (frozen states), or those still going alone (skipped); queries,
solves, output maps and anchors are computed where a token goes on. What a token decides by is its
own stream, so that it stops at the same block whatever its batch and whether it comes alone.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from energylens.mesanet.anchors import Anchors
from energylens.mesanet.config import MesaNetConfig
from energylens.mesanet.exits import Asked, ExitPolicy, exit_scores
from energylens.mesanet.mixers import (
    AttentionMixer,
    LogLinearMixer,
    MesaMixer,
    MesaNetCache,
    MixerCache,
)

if TYPE_CHECKING:
    from energylens.mesanet.model import MesaNetForCausalLM, Step


@dataclass(frozen=True)
class EarlyPass:
    """Where each token stopped, and what it had become."""

    stream: Float[Tensor, "batch pos d_model"]
    """After the last block the token went through."""
    depths: Int[Tensor, "batch pos"]
    """Blocks it went through; 0 for padding."""
    scores: Float[Tensor, "blocks batch pos"]
    """What it was asked by after each block but the last; NaN where it was not asked."""


@torch.no_grad()
def early_pass(
    model: "MesaNetForCausalLM",
    step: "Step",
    cache: MesaNetCache,
    policy: ExitPolicy,
    told: Float[Tensor, "blocks batch pos"] | None = None,
    keeps_states: bool = True,
) -> EarlyPass:
    """Run the tokens of a step; without later tokens to come, blocks that none reaches are left."""
    assert isinstance(model.config, MesaNetConfig), "a MesaNet has its own"
    policy.check(model.config, told is not None)
    x = model.embed(step.ids) * model.config.embedding_scale
    going, depths = step.mask.clone(), torch.zeros_like(step.ids)
    scores = x.new_full((len(policy.thresholds), *step.ids.shape), torch.nan, dtype=torch.float32)
    for layer, (block, store) in enumerate(zip(model.blocks, cache.layers, strict=True)):
        if not (keeps_states or going.any()):
            break
        heard = step.mask if policy.states == "frozen" else going
        x[going] = _block(block, x, heard, going, step, store)
        depths += going
        if layer == len(policy.thresholds) or policy.thresholds[layer] == -torch.inf:
            continue
        given = None if told is None else told[layer][going]
        asked = Asked(layer, x[going], step.ids[going], step.place[going], given)
        found = exit_scores(policy, asked, model.exit_heads, step.lens_entropy)
        scores[layer][going] = found
        left = torch.zeros_like(going)
        left[going] = found >= policy.thresholds[layer]
        going = left
    return EarlyPass(x, depths, scores)


def _block(
    block: nn.Module,
    x: Float[Tensor, "batch pos d_model"],
    heard: Bool[Tensor, "batch pos"],
    going: Bool[Tensor, "batch pos"],
    step: "Step",
    store: MixerCache,
) -> Float[Tensor, "n d_model"]:
    """What one block makes of the tokens still going, row by row."""
    mixer, anchors = block.mixer, block.anchors
    assert isinstance(mixer, MesaMixer | AttentionMixer | LogLinearMixer)
    assert isinstance(anchors, Anchors)
    assert isinstance(block.mixer_norm, nn.RMSNorm) and isinstance(block.mlp_norm, nn.RMSNorm)
    normed = block.mixer_norm(x)
    if isinstance(mixer, MesaMixer):
        mixed = mixer.at(normed, heard, going, store)
    elif isinstance(mixer, LogLinearMixer):
        mixed = mixer(normed, heard, store, step.place)[going]
    else:
        before = step.seen[:, : -x.shape[1]] if store.heard is None else store.heard
        store.heard = torch.cat([before, heard], dim=1)
        mixed = mixer.at(normed, store.heard, going, store, step.place)
    before = x[going][None]
    worth = step.worth(before, anchors.layer)
    x = x.clone()
    x[going] += mixed
    middle, ids, place = (one[going][None] for one in (x, step.ids, step.place))
    if "previous" in anchors.config.energy:
        lens = step.previous_energy(x, store)[going][None]
    else:
        lens = step.lens(middle, store)
    written, _ = anchors(block.mlp_norm(middle), ids, place, lens, worth, before)
    return (middle + written)[0]
