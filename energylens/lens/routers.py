"""What the routers of a model decided, read off its modules as it runs.

Mixtral, OLMoE and the Qwen-MoE classes of Hugging Face compute router logits in a small linear
module in each block, choose the top k of their softmax, and some scale the chosen weights to sum
to 1. The full distribution is kept, so entropy and margin do not depend on that choice. The anchors
of a MesaNet say themselves what they chose: a balancing bias helps to choose, and is no part of the
logits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from energylens.lens.models import LanguageModel
from energylens.mesanet.anchors import Routing
from energylens.mesanet.model import Block, MesaNetForCausalLM

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
    seen_energy: Float[Tensor, " n"] | None = None
    """The energy the router was given, nats; None where it sees none."""
    write_norm: Float[Tensor, " n"] | None = None
    """Norm of what the choices added to the residual stream; None where not known."""
    solver_steps: Int[Tensor, " n"] | None = None
    """Steps of the block's mixer; None where it solves nothing."""


@dataclass
class Recorded:
    """What one router's module gave in a pass, token by token of the padded batch."""

    logits: Float[Tensor, "tokens n_choices"] | None = None
    choice_ids: Int[Tensor, "tokens k"] | None = None
    """None where the choices follow from the logits, as `weights`."""
    weights: Float[Tensor, "tokens k"] | None = None
    seen_energy: Float[Tensor, " tokens"] | None = None
    write_norm: Float[Tensor, " tokens"] | None = None
    solver_steps: Int[Tensor, " tokens"] | None = None


def find_routers(model: LanguageModel) -> list[Router]:
    """The routers of a model, by block; none for a dense model."""
    if isinstance(model.hf_model, MesaNetForCausalLM):
        return _anchors(model.hf_model)
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


def _anchors(model: MesaNetForCausalLM) -> list[Router]:
    if model.config.router == "dense":
        return []
    return [
        Router(f"blocks.{layer}.anchors", layer, block, model.config.active_anchors, True)
        for layer, block in enumerate(model.blocks)
    ]


def _blocks_modules(model: LanguageModel) -> Iterator[tuple[str, nn.Module]]:
    seen: set[int] = set()
    for name, module in model.hf_model.named_modules():
        inner = getattr(module, "original_component", module)
        if id(inner) not in seen and any(part.isdigit() for part in name.split(".")):
            seen.add(id(inner))
            yield name.replace(".original_component", "").replace("._original_component", ""), inner


@contextmanager
def record_routing(routers: list[Router], d_model: int) -> Iterator[dict[str, Recorded]]:
    """Within the block, each forward pass fills in what the routers' modules gave."""
    found = {router.name: Recorded() for router in routers}
    handles = [handle for router in routers for handle in _hooks(router, d_model, found)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _hooks(router: Router, d_model: int, found: dict[str, Recorded]) -> list[RemovableHandle]:
    if isinstance(router.module, Block):
        return _anchor_hooks(router.module, found[router.name])
    weight: Any = router.module.weight
    bias: Any = getattr(router.module, "bias", None)

    def record(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        x = inputs[0].reshape(-1, d_model).to(weight.dtype)
        found[router.name].logits = torch.nn.functional.linear(x, weight, bias).float()

    return [router.module.register_forward_hook(record)]


def _anchor_hooks(block: Block, found: Recorded) -> list[RemovableHandle]:
    def routed(module: nn.Module, inputs: Any, output: tuple[Tensor, Routing]) -> None:
        routing = output[1]
        found.logits = routing.logits.float().flatten(0, 1)
        found.choice_ids = routing.choices.flatten(0, 1)
        found.weights = routing.weights.float().flatten(0, 1)
        seen = routing.seen_energy
        found.seen_energy = None if seen is None else seen.float().flatten()
        found.write_norm = routing.write.float().norm(dim=-1).flatten()

    def solved(module: nn.Module, inputs: Any, output: Any) -> None:
        found.solver_steps = output[1].flatten() if isinstance(output, tuple) else None

    return [
        block.anchors.register_forward_hook(routed),
        block.mixer.register_forward_hook(solved),
    ]


def routes(router: Router, recorded: Recorded, kept: Bool[Tensor, " tokens"]) -> Routes:
    """Choices and weights of the kept tokens, as the model made them."""
    assert recorded.logits is not None, "a pass has been recorded"
    logits = recorded.logits[kept]
    probabilities = logits.softmax(-1)
    if recorded.choice_ids is not None and recorded.weights is not None:
        weights, order = recorded.weights[kept].sort(dim=-1, descending=True)
        choice_ids = recorded.choice_ids[kept].gather(-1, order)
    else:
        weights, choice_ids = probabilities.topk(router.top_k, dim=-1)
        if router.normalised:
            weights = weights / weights.sum(-1, keepdim=True)
    best = probabilities.topk(min(2, probabilities.shape[-1]), dim=-1).values
    return Routes(
        logits=logits,
        choice_ids=choice_ids,
        weights=weights,
        entropy=torch.special.entr(probabilities).sum(-1),
        margin=best[:, 0] - best[:, -1] if best.shape[-1] > 1 else best[:, 0],
        seen_energy=None if recorded.seen_energy is None else recorded.seen_energy[kept],
        write_norm=None if recorded.write_norm is None else recorded.write_norm[kept],
        solver_steps=None if recorded.solver_steps is None else recorded.solver_steps[kept],
    )


def _first(config: Any, *names: str) -> int | None:
    return next((int(getattr(config, n)) for n in names if getattr(config, n, None)), None)
