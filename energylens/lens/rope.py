"""Rotary embeddings that depend on how long a pass is.

Under longrope (Phi-3 with long context) a pass longer than the original context reads all of its
rows with other frequencies; under dynamic NTK the frequencies follow the longest row seen. A row
must not depend on the rows beside it, so contexts share a pass only where they would be read alike
alone, and what a module keeps from an earlier pass is forgotten.
"""

from collections.abc import Callable
from typing import Any

from torch import nn

Regime = tuple[int, ...]


def regimes(model: nn.Module) -> Callable[[int], Regime]:
    """What a context's length decides: contexts of equal answers may share a pass.

    Also makes each pass of the model forget the lengths of earlier ones.
    """
    thresholds: set[int] = set()
    follows: set[int] = set()
    for module in model.modules():
        for kind, layer_type in _rope_types(module):
            if kind == "longrope":
                thresholds.add(_original_length(module, layer_type))
            elif "dynamic" in kind:
                follows.add(int(module.original_max_seq_len))  # pyright: ignore
                module.register_forward_pre_hook(_forget(layer_type))

    def regime(length: int) -> Regime:
        return (
            *(int(length > threshold) for threshold in sorted(thresholds)),
            *(max(length, start) for start in sorted(follows)),
        )

    return regime


def _rope_types(module: nn.Module) -> list[tuple[str, str | None]]:
    kind: Any = getattr(module, "rope_type", None)
    if isinstance(kind, str):
        return [(kind, None)]
    if isinstance(kind, dict):
        return [(str(one), layer_type) for layer_type, one in kind.items()]
    return []


def _original_length(module: Any, layer_type: str | None) -> int:
    rope = module.config.rope_parameters
    return int(
        (rope if layer_type is None else rope[layer_type])["original_max_position_embeddings"]
    )


def _forget(layer_type: str | None) -> Any:
    prefix = "" if layer_type is None else f"{layer_type}_"

    def hook(module: Any, args: Any) -> None:
        original = getattr(module, f"{prefix}original_inv_freq")
        module.register_buffer(f"{prefix}inv_freq", original.clone(), persistent=False)
        setattr(module, f"{prefix}max_seq_len_cached", module.original_max_seq_len)

    return hook
