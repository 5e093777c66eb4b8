"""Gradients of a model's energies with respect to the activations at its hooks.

Three kinds are told apart. `lens` reads one token at one layer and has a closed form
(`energylens.lens.energy`). `total` is the effect of h_i on all energies of its context,
d(sum over j >= i of E_j)/dh_i. `own` detaches the keys and values of every attention layer, so that
h_i reaches the energy of its own token through its own stream only. At the last layer all agree.
`calibration` is the lens gradient with labels drawn from the lens: its expectation is zero whatever
the feature, which makes it the exact null of a calibrated read-out.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.errors import ModelError
from energylens.lens.energy import lens_energies
from energylens.lens.models import LanguageModel
from energylens.lens.saes import Sae, layer_of, stream_of

Variant = Literal["lens", "own", "total", "calibration"]
"""Which gradient: see the module."""
VARIANTS: tuple[Variant, ...] = get_args(Variant)


def model_gradients(
    model: LanguageModel,
    ids: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"],
    next_ids: Int[Tensor, "batch pos"],
    hook_names: Iterable[str],
    own: bool,
    uniforms: Float[Tensor, " n"] | None = None,
    edits: Sequence[tuple[str, Callable[..., Any]]] = (),
) -> dict[str, Float[Tensor, "batch pos d_model"]]:
    """`total` or `own` gradients at several hooks: one forward and one backward pass.

    `uniforms`, one number in [0, 1) for each of the n real tokens, draw every label from the model
    instead of the text. `edits` are hooks that change the pass; gradients are by what they leave.
    Zero where a token is padding. Raises ModelError where `own` is asked of a model whose keys and
    values have no hooks.
    """
    names = list(dict.fromkeys(hook_names))
    last = model.resid_post(model.n_layers - 1)
    kept: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: Any, name: str) -> Tensor:
        if not value.requires_grad:
            value = value.detach().requires_grad_(True)
        kept[name] = value
        return value

    hooks: list[Any] = [*edits]
    hooks += [(name, partial(keep, name=name)) for name in dict.fromkeys([*names, last])]
    if own:
        hooks += [(name, _detach) for name in _keys_and_values(model)]
    with torch.enable_grad():
        model.bridge.run_with_hooks(ids, attention_mask=mask.long(), fwd_hooks=hooks)
        stream = kept[last]
        at_last = torch.zeros_like(stream)
        labels = next_ids[mask]
        energies = lens_energies(model.readout, stream.detach()[mask], labels, True, uniforms)
        read = energies.gradient if uniforms is None else energies.resampled_gradient
        assert read is not None, "a gradient was asked for"
        at_last[mask] = read.nan_to_num(nan=0.0).to(at_last.dtype)
        found = torch.autograd.grad(
            stream, [kept[name] for name in names], at_last, materialize_grads=True
        )
    return {name: value.float() for name, value in zip(names, found, strict=True)}


def lens_hook(model: LanguageModel, sae: Sae) -> str:
    """The residual stream that an SAE's output is part of, where the lens reads it."""
    target = sae.target_hook
    return target if stream_of(target) == "residual" else model.resid_post(layer_of(target))


def token_uniforms(token_index: Int[np.ndarray, " n"]) -> Float[Tensor, " n"]:
    """A number in [0, 1) for each token, the same whatever batch or shard it stands in.

    The mixing function of SplitMix64 (Steele, Lea and Flood, 2014).
    """
    x = token_index.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(
        0x9E3779B97F4A7C15
    )
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return torch.from_numpy((x >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24))


def _detach(value: Tensor, hook: Any) -> Tensor:
    return value.detach()


def _keys_and_values(model: LanguageModel) -> list[str]:
    names = [
        f"blocks.{layer}.attn.hook_{part}" for layer in range(model.n_layers) for part in ("k", "v")
    ]
    missing = [name for name in names if name not in model.bridge.hook_dict]
    if missing:
        raise ModelError(
            f"the model '{model.source}' has no hook '{missing[0]}', so a token's own stream "
            "cannot be told from what reaches it through attention; leave out --efas own"
        )
    return names
