"""Passes that see few hooks, without what the other hook points cost.

TransformerLens puts a component of its own in the place of every module; each of them computes what
its hooks would show (a norm's scale, an attention's pattern), whether or not someone looks.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from transformer_lens.model_bridge import TransformerBridge
from transformer_lens.model_bridge.generalized_components.base import GeneralizedComponent

from energylens.mesanet.hooked import HookedMesaNet


@contextmanager
def without_other_hooks(
    bridge: TransformerBridge | HookedMesaNet, hook_names: Iterable[str]
) -> Iterator[None]:
    """Within this, a model computes by its own modules wherever none of these hooks is.

    Other hooks see nothing. A MesaNet's hooks cost nothing and stay.
    """
    if isinstance(bridge, HookedMesaNet):
        yield
        return
    model: Any = bridge.original_model
    shown = {id(bridge.hook_dict[name]) for name in hook_names}
    swapped = list(_components_without(model, shown))
    for parent, name, component in swapped:
        parent._modules[name] = component.original_component
    config = model.config.get_text_config()
    keeps = getattr(config, "use_cache", None)
    if keeps and not any(_holds(module, shown) for module in model.modules()):
        config.use_cache = False  # what is read once, whole, needs no keys and values afterwards
    try:
        yield
    finally:
        if keeps:
            config.use_cache = keeps
        for parent, name, component in swapped:
            parent._modules[name] = component
            if hasattr(component, "_current_batch_size"):  # told of a pass that it did not see
                component._current_batch_size = None


def _holds(module: nn.Module, shown: set[int]) -> bool:
    """Whether it is a component of TransformerLens, other than a block, that was kept for a hook.
    Some of those compute with a cache only."""
    is_part = isinstance(module, GeneralizedComponent) and not module.is_list_item
    return is_part and any(id(inner) in shown for inner in module.modules())


def _components_without(
    parent: nn.Module, shown: set[int]
) -> Iterator[tuple[nn.Module, str, GeneralizedComponent]]:
    """Components under a module that hold none of these hook points: parent, name, component.

    One that holds some is kept whole, unless it is a block: its parts are looked at one by one.
    """
    for name, child in parent.named_children():
        if not isinstance(child, GeneralizedComponent):
            yield from _components_without(child, shown)
            continue
        inner = child.original_component
        if inner is None:
            continue
        is_shown = any(id(module) in shown for module in child.modules())
        if not is_shown:
            yield parent, name, child
        if not is_shown or child.is_list_item:
            yield from _components_without(inner, shown)
