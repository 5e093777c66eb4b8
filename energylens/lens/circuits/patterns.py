"""Where every head looks in a batch, layer by layer, none of it kept."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from energylens.lens.circuits.weights import HeadWeights
from energylens.lens.models import EnoughError, LanguageModel, run_until_enough
from energylens.mesanet.hooked import HookedMesaNet


@dataclass(frozen=True)
class LayerHeads:
    """What the heads of one layer do."""

    layer: int
    pattern: Float[Tensor, "batch head destination source"]
    """Attention. Of mesa heads, the absolute weight of each value in what the head puts out, as a
    share of all: their weights may be negative."""
    values: Float[Tensor, "batch source head d_head"]
    mixed: Float[Tensor, "batch destination head d_head"]
    """Sum of values by weight, before W_O; of a MesaNet normed, without the gain W_O holds."""


def read_patterns(
    model: LanguageModel,
    weights: HeadWeights,
    ids: Int[Tensor, "batch pos"],
    mask: Bool[Tensor, "batch pos"],
    each: Callable[[LayerHeads], None],
    last: int | None = None,
) -> None:
    """Run a batch and show every layer's heads to `each`, in order; after the layer `last`, or the
    model's last, the pass ends."""
    end = model.n_layers - 1 if last is None else last

    def show(heads: LayerHeads) -> None:
        each(heads)
        if heads.layer == end:
            raise EnoughError

    if isinstance(model.bridge, HookedMesaNet):
        with _watched(model, show):
            run_until_enough(model, ids, mask.long(), [])
        return
    run_until_enough(model, ids, mask.long(), _bridge_hooks(model, weights, show))


def _bridge_hooks(
    model: LanguageModel, weights: HeadWeights, each: Callable[[LayerHeads], None]
) -> list[tuple[str, Callable[..., Tensor]]]:
    kept: dict[str, Tensor] = {}

    def keep(value: Tensor, hook: Any, part: str) -> Tensor:
        kept[part] = value
        return value

    def show(value: Tensor, hook: Any, layer: int) -> Tensor:
        pattern, values = kept.pop("pattern").float(), kept.pop("v").float()
        shape = (*value.shape[:2], -1, weights.d_head)
        values = values.reshape(shape)
        values = values.repeat_interleave(weights.n_heads // values.shape[2], dim=2)
        each(LayerHeads(layer, pattern, values, value.float().reshape(shape)))
        return value

    hooks: list[tuple[str, Callable[..., Tensor]]] = []
    for layer in range(model.n_layers):
        place = f"blocks.{layer}.attn.hook_"
        hooks += [(f"{place}{part}", partial(keep, part=part)) for part in ("v", "pattern")]
        hooks.append((f"{place}z", partial(show, layer=layer)))
    return hooks


@contextmanager
def _watched(model: LanguageModel, each: Callable[[LayerHeads], None]) -> Iterator[None]:
    def look(mixer: Any, given: tuple[Any, ...], layer: int) -> None:
        mixing = mixer.mixing(given[0], given[1])
        size = mixing.weights.abs()
        mixed = functional.rms_norm(
            mixing.weights @ mixing.values, (mixer.d_head,), eps=mixer.norm.eps
        )
        pattern = size / size.sum(-1, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
        each(LayerHeads(layer, pattern, mixing.values.transpose(1, 2), mixed.transpose(1, 2)))

    with ExitStack() as hooks:
        for layer, block in enumerate(model.hf_model.blocks):
            hook = block.mixer.register_forward_pre_hook(partial(look, layer=layer))
            hooks.callback(hook.remove)
        yield
