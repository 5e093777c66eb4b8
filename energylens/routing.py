"""What the routers of a mixture-of-experts model decided, read off its modules as it runs.

Mixtral, OLMoE and the Qwen-MoE classes of Hugging Face compute router logits in a small linear
module in each block, choose the top k of their softmax, and some scale the chosen weights to sum
to 1. The full distribution is kept, so entropy and margin do not depend on that choice.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from energylens.models import LanguageModel

_ROUTER_NAMES = ("gate", "router")


@dataclass(frozen=True)
class Router:
    """One router of a model."""

    name: str
    layer: int
    module: nn.Module
    top_k: int
    normalised: bool
    """The chosen weights are scaled to sum to 1."""


@dataclass(frozen=True)
class Routes:
    """What one router did at n tokens."""

    logits: Float[Tensor, "n n_choices"]
    choice_ids: Int[Tensor, "n k"]
    weights: Float[Tensor, "n k"]
    entropy: Float[Tensor, " n"]
    """Nats, of the softmax over all choices."""
    margin: Float[Tensor, " n"]
    """Probability of the first choice less that of the second."""


def find_routers(model: LanguageModel) -> list[Router]:
    """The routers of a model, by block; none for a dense model."""
    config = model.hf_model.config.get_text_config()
    n_experts = _first(config, "num_local_experts", "num_experts", "n_routed_experts")
    top_k = _first(config, "num_experts_per_tok", "num_experts_per_token", "moe_top_k")
    if not n_experts or not top_k:
        return []
    normalised = bool(getattr(config, "norm_topk_prob", True))
    routers = []
    for name, module in _blocks_modules(model):
        weight = getattr(module, "weight", None)
        last = name.rsplit(".", 1)[-1]
        if last not in _ROUTER_NAMES or weight is None:
            continue
        if tuple(weight.shape) == (n_experts, model.d_model):
            layer = next(int(part) for part in name.split(".") if part.isdigit())
            router = f"blocks.{layer}.mlp.{last}"
            routers.append(Router(router, layer, module, top_k, normalised))
    return routers


def _blocks_modules(model: LanguageModel) -> Iterator[tuple[str, nn.Module]]:
    seen: set[int] = set()
    for name, module in model.hf_model.named_modules():
        inner = getattr(module, "original_component", module)
        if id(inner) not in seen and any(part.isdigit() for part in name.split(".")):
            seen.add(id(inner))
            yield name.replace(".original_component", "").replace("._original_component", ""), inner


@contextmanager
def record_logits(routers: list[Router], d_model: int) -> Iterator[dict[str, Tensor]]:
    """Within the block, each forward pass fills in the router logits `[tokens, n_choices]`."""
    found: dict[str, Tensor] = {}

    def recorder(router: Router) -> Any:
        weight: Any = router.module.weight
        bias: Any = getattr(router.module, "bias", None)

        def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            x = inputs[0].reshape(-1, d_model).to(weight.dtype)
            found[router.name] = torch.nn.functional.linear(x, weight, bias).float()

        return record

    handles = [router.module.register_forward_hook(recorder(router)) for router in routers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def routes(router: Router, logits: Float[Tensor, "n n_choices"]) -> Routes:
    """Choices and weights from router logits, as the model makes them."""
    probabilities = logits.softmax(-1)
    weights, choice_ids = probabilities.topk(router.top_k, dim=-1)
    best = probabilities.topk(min(2, probabilities.shape[-1]), dim=-1).values
    if router.normalised:
        weights = weights / weights.sum(-1, keepdim=True)
    return Routes(
        logits=logits,
        choice_ids=choice_ids,
        weights=weights,
        entropy=torch.special.entr(probabilities).sum(-1),
        margin=best[:, 0] - best[:, -1] if best.shape[-1] > 1 else best[:, 0],
    )


def _first(config: Any, *names: str) -> int | None:
    return next((int(getattr(config, n)) for n in names if getattr(config, n, None)), None)
