"""What the routers of a model decided, read off its modules as it runs.

Of a mixture of experts, the choices are what its experts were handed (`energylens.lens.experts`);
the scores of all choices are kept beside them, so that entropy and margin can be told. The anchors
of a MesaNet say themselves what they chose: a balancing bias helps to choose, and is no part of the
scores.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from energylens.lens.experts import LOG_SCORES, Mixture, handed_of, scores_of, tensors
from energylens.lens.models import LanguageModel, run_hooks
from energylens.mesanet.anchors import Routing
from energylens.mesanet.model import Block, MesaNetForCausalLM


@dataclass(frozen=True)
class Router:
    """One router of a model."""

    name: str
    layer: int
    source: Block | Mixture
    """What is read: the block of a MesaNet, or a mixture of experts."""


@dataclass(frozen=True)
class Routes:
    """What one router did at n tokens."""

    logits: Float[Tensor, "n n_choices"]
    """Logarithms of the scores, up to a number for each token."""
    choice_ids: Int[Tensor, "n k"]
    weights: Float[Tensor, "n k"]
    entropy: Float[Tensor, " n"]
    """Nats, of the shares of all choices in the sum of the scores."""
    margin: Float[Tensor, " n"]
    """The largest share less the second."""
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
    weights: Float[Tensor, "tokens k"] | None = None
    seen_energy: Float[Tensor, " tokens"] | None = None
    write_norm: Float[Tensor, " tokens"] | None = None
    solver_steps: Int[Tensor, " tokens"] | None = None


def find_routers(model: LanguageModel) -> list[Router]:
    """The routers of a model, by block; none for a dense model, or over a `routing_gap`."""
    if isinstance(model.hf_model, MesaNetForCausalLM):
        return _anchors(model.hf_model)
    return [] if routing_gap(model) else _routers(model)


def routing_gap(model: LanguageModel) -> str | None:
    """Why no routing of a mixture of experts can be stored; None where it can, or there is none.

    On the few tokens of the load check, what is recorded through the wrapper must be what the bare
    model handed its experts.
    """
    if model.mixtures.gap is not None or not model.mixtures.found:
        return model.mixtures.gap
    routers = _routers(model)
    ids = model.sample
    with record_routing(routers) as recorded:
        run_hooks(model, ids, torch.ones_like(ids), [])
    for router, mixture in zip(routers, model.mixtures.found, strict=True):
        one = recorded[router.name]
        if one.choice_ids is None or one.weights is None:
            return f"TransformerLens does not run the experts of block {router.layer} as they are"
        same = _dense(one.choice_ids, one.weights, one.logits)
        expected = _dense(mixture.seen.choice_ids, mixture.seen.weights, one.logits)
        tolerance = 1e-3 if model.dtype == "float32" else 5e-2
        if not torch.allclose(same, expected, rtol=tolerance, atol=tolerance):
            return (
                f"under TransformerLens' wrapper the experts of block {router.layer} are handed "
                "other choices than in the model itself"
            )
    return None


def _routers(model: LanguageModel) -> list[Router]:
    found: dict[str, Router] = {}
    for mixture in model.mixtures.found:
        name = f"blocks.{mixture.layer}.mlp.{mixture.name.rpartition('.')[2]}"
        if name in found:  # a second mixture of its block
            name = f"blocks.{mixture.layer}.{mixture.name.split(f'.{mixture.layer}.', 1)[-1]}"
        found[name] = Router(name, mixture.layer, mixture)
    return list(found.values())


def _dense(
    choice_ids: Int[Tensor, "n k"], weights: Float[Tensor, "n k"], like: Tensor | None
) -> Float[Tensor, "n n_choices"]:
    assert like is not None, "recorded with the choices"
    return torch.zeros_like(like).scatter_add(1, choice_ids, weights)


def _anchors(model: MesaNetForCausalLM) -> list[Router]:
    if model.config.router == "dense":
        return []
    return [
        Router(f"blocks.{layer}.anchors", layer, block)
        for layer, block in enumerate(model.blocks)
        if isinstance(block, Block)
    ]


@contextmanager
def record_routing(routers: Sequence[Router]) -> Iterator[dict[str, Recorded]]:
    """Within the block, each forward pass fills in what the routers' modules gave."""
    found = {router.name: Recorded() for router in routers}
    handles = [handle for router in routers for handle in _hooks(router, found[router.name])]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _hooks(router: Router, found: Recorded) -> list[RemovableHandle]:
    source = router.source
    if isinstance(source, Block):
        return _anchor_hooks(source, found)
    scores: dict[int, Tensor] = {}

    def given(module: nn.Module, inputs: Any, output: Any) -> None:
        parts = tensors(output)
        n_tokens = parts[source.output].shape[:-1].numel()
        scores.update(scores_of(parts, n_tokens))
        found.logits = LOG_SCORES[source.score](scores[source.output])

    def handed(module: nn.Module, args: Any, kwargs: Any) -> None:
        one = handed_of(tensors((args, kwargs)), scores, len(scores[source.output]))
        assert one is not None, "made sure of when the model was loaded"
        found.choice_ids, found.weights = one.choice_ids, one.weights

    return [
        source.gate.register_forward_hook(given),
        source.experts.register_forward_pre_hook(handed, with_kwargs=True),
    ]


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


def routes(recorded: Recorded, kept: Bool[Tensor, " tokens"]) -> Routes:
    """Choices and weights of the kept tokens, as the model made them; the heaviest first."""
    assert recorded.logits is not None, "a pass has been recorded"
    assert recorded.choice_ids is not None and recorded.weights is not None, "with its choices"
    logits = recorded.logits[kept]
    weights, order = recorded.weights[kept].sort(dim=-1, descending=True, stable=True)
    shares = logits.softmax(-1)
    best = shares.topk(min(2, shares.shape[-1]), dim=-1).values
    return Routes(
        logits=logits,
        choice_ids=recorded.choice_ids[kept].gather(-1, order),
        weights=weights,
        entropy=torch.special.entr(shares).sum(-1),
        margin=best[:, 0] - best[:, -1] if best.shape[-1] > 1 else best[:, 0],
        seen_energy=None if recorded.seen_energy is None else recorded.seen_energy[kept],
        write_norm=None if recorded.write_norm is None else recorded.write_norm[kept],
        solver_steps=None if recorded.solver_steps is None else recorded.solver_steps[kept],
    )
