"""A MesaNet under the calls that TransformerLens' wrapper answers for other models."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from energylens.mesanet.model import MesaNetForCausalLM

Hook = Callable[..., Tensor | None]


class _StopError(Exception):
    """Ends a pass whose later blocks nobody needs."""


class HookedMesaNet:
    """The model with its hook points by name; it needs no wrapping, since they are its own."""

    def __init__(self, model: MesaNetForCausalLM) -> None:
        self.original_model = model
        self.hook_dict: dict[str, HookPoint] = {}
        for name, module in model.named_modules():
            if isinstance(module, HookPoint):
                module.name = name
                self.hook_dict[name] = module

    def run_with_hooks(
        self,
        ids: Int[Tensor, "batch pos"],
        attention_mask: Int[Tensor, "batch pos"] | None = None,
        fwd_hooks: Sequence[tuple[str, Hook]] = (),
        **_: Any,
    ) -> Float[Tensor, "batch pos d_vocab"]:
        """Logits of a pass in which each hook sees, and may replace, the value at its place."""
        with self.hooks(fwd_hooks):
            logits = self.original_model(ids, attention_mask=attention_mask).logits
        assert logits is not None, "the model gives logits"
        return logits

    def run_with_cache(
        self,
        ids: Int[Tensor, "batch pos"],
        attention_mask: Int[Tensor, "batch pos"] | None = None,
        names_filter: Callable[[str], bool] = lambda _: True,
        stop_at_layer: int | None = None,
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Logits, and the values at the hooks whose names pass; a pass that stops has no logits."""
        cache: dict[str, Tensor] = {}

        def keep(value: Tensor, hook: HookPoint) -> None:
            cache[str(hook.name)] = value.detach()

        def stop(value: Tensor, hook: HookPoint) -> None:
            raise _StopError

        hooks: list[tuple[str, Hook]] = [(n, keep) for n in self.hook_dict if names_filter(n)]
        if stop_at_layer is not None and stop_at_layer < len(self.original_model.blocks):
            hooks.append((f"blocks.{stop_at_layer}.hook_resid_pre", stop))
        try:
            return self.run_with_hooks(ids, attention_mask, hooks), cache
        except _StopError:
            return None, cache

    @contextmanager
    def hooks(self, fwd_hooks: Sequence[tuple[str, Hook]]) -> Iterator[None]:
        """Within the block every pass runs these hooks, in their order and before later ones."""
        added = []
        try:
            for name, hook in fwd_hooks:
                point = self.hook_dict[name]
                point.add_hook(hook)
                added.append((point, point.fwd_hooks[-1]))
            yield
        finally:
            for point, handle in added:
                handle.hook.remove()
                point.fwd_hooks.remove(handle)
