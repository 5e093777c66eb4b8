"""Passes that see few hooks, without what the other hook points cost.

TransformerLens puts a component of its own in the place of every module; each of them computes what
its hooks would show (a norm's scale, an attention's pattern), whether or not someone looks.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

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
    shown = {id(bridge.hook_dict[name]) for name in hook_names}
    swapped = list(_components_without(bridge.original_model, shown))
    for parent, name, component in swapped:
        parent._modules[name] = component.original_component
    try:
        yield
    finally:
        for parent, name, component in swapped:
            parent._modules[name] = component


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
