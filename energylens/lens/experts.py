"""Mixtures of experts: what a model's own code hands its experts, token by token.

The rules differ from class to class (softmax or sigmoid, before or after the choice, a bias that
balances, groups, scalings), so none is followed here: indices and weights are those the module
`experts` is called with. What the gate gives beside them is taken for its scores only where the
handed weights confirm it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

_GATE_NAMES = ("gate", "router")
_MIXTURE_ENDINGS = ("Experts", "MoE", "Moe", "MoeBlock", "MoEMLP", "MoeMLP")

LogScore = Callable[[Tensor], Tensor]
LOG_SCORES: dict[str, LogScore] = {
    "softmax": lambda x: x.log_softmax(-1),
    "sigmoid": functional.logsigmoid,
    "square root of softplus": lambda x: 0.5 * functional.softplus(x).log(),
    "as given": lambda x: x.clamp_min(0).log(),
}
"""What a gate may make of its logits before the choice; `as given` for one that gives scores."""


@dataclass(frozen=True)
class Handed:
    """What a mixture's experts were handed at n tokens."""

    choice_ids: Int[Tensor, "n k"]
    weights: Float[Tensor, "n k"]


@dataclass(frozen=True)
class Mixture:
    """One mixture of a model, and what it did with a few tokens before it was wrapped."""

    name: str
    """The gate's path in the model."""
    layer: int
    experts: nn.Module
    gate: nn.Module
    score: str
    """Of LOG_SCORES: what the choice is made by, a balancing bias left aside."""
    output: int
    """Which of the gate's tensors that is applied to."""
    seen: Handed


@dataclass(frozen=True)
class Mixtures:
    """Every mixture of a model."""

    found: tuple[Mixture, ...] = ()
    gap: str | None = None
    """Why the routing of a model with experts cannot be had; None where it can, or has none."""


class Watched:
    """The calls of the experts and gates of a model in a pass; made by `watch`."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())
        self.experts = [n for n in self.modules if n.rpartition(".")[2] == "experts"]
        self.gates = [n for n in self.modules if _is_gate(n)]
        self.inputs: dict[str, list[Tensor]] = {}
        self.outputs: dict[str, list[Tensor]] = {}

    def mixtures(self, n_tokens: int) -> Mixtures:
        """What is known of the mixtures after a pass over `n_tokens` tokens."""
        called = [name for name in self.experts if name in self.inputs]
        if not called:
            return Mixtures(gap=self._gap())
        found: list[Mixture] = []
        for name in called:
            one = self._mixture(name, n_tokens)
            if isinstance(one, str):
                return Mixtures(gap=one)
            found.append(one)
        return Mixtures(tuple(found))

    def _gap(self) -> str | None:
        """Mixtures of another make: they have no module `experts` that is handed choices."""
        kinds = {type(module).__name__ for module in self.modules.values()}
        other = sorted(kind for kind in kinds if kind.endswith(_MIXTURE_ENDINGS))
        return f"{other[0]} hands no module of its own the choices" if other else None

    def _mixture(self, name: str, n_tokens: int) -> Mixture | str:
        parent = name.rpartition(".")[0]
        gates = [g for g in self.gates if g.startswith(f"{parent}.") and g in self.outputs]
        kind = type(self.modules[name]).__name__
        layer = next((int(part) for part in name.split(".") if part.isdigit()), None)
        if layer is None:
            return f"{kind} stands in no block"
        for gate in gates:
            scores = scores_of(self.outputs[gate], n_tokens)
            handed = handed_of(self.inputs[name], scores, n_tokens)
            if handed is None:
                continue
            source = _source(scores, handed)
            if source is not None:
                modules = self.modules[name], self.modules[gate]
                return Mixture(gate, layer, *modules, *source, handed)
        return f"{kind} is handed no choices that the scores of its gate explain"


@contextmanager
def watch(model: nn.Module) -> Iterator[Watched]:
    """Within the block, the calls of the model's experts and gates are written down."""
    watched = Watched(model)

    def taken(name: str) -> Any:
        return lambda module, args, kwargs: watched.inputs.__setitem__(
            name, tensors((args, kwargs))
        )

    def given(name: str) -> Any:
        return lambda module, args, output: watched.outputs.__setitem__(name, tensors(output))

    handles = [
        watched.modules[n].register_forward_pre_hook(taken(n), with_kwargs=True)
        for n in watched.experts
    ]
    handles += [watched.modules[n].register_forward_hook(given(n)) for n in watched.gates]
    try:
        yield watched
    finally:
        for handle in handles:
            handle.remove()


def handed_of(
    inputs: Sequence[Tensor], scores: Mapping[int, Tensor], n_tokens: int
) -> Handed | None:
    """Indices and weights among what experts were called with; None where they are not there.

    Experts that compute every token with every expert (Llama 4) are handed inputs scaled by the
    gate's scores, nearly all of them 0: those are the choices then.
    """
    for ids in inputs:
        if ids.is_floating_point() or ids.dtype == torch.bool or ids.numel() % n_tokens:
            continue
        for weights in inputs:
            if weights.is_floating_point() and weights.shape == ids.shape:
                return Handed(
                    ids.reshape(n_tokens, -1).long(), weights.reshape(n_tokens, -1).float()
                )
    if len(inputs) == 1:
        return _dense(inputs[0], scores, n_tokens)
    return None


def _dense(scaled: Tensor, scores: Mapping[int, Tensor], n_tokens: int) -> Handed | None:
    for given in scores.values():
        chosen = given != 0
        k = int(chosen[0].sum())
        n_experts = given.shape[1]
        if k == n_experts or not (chosen.sum(1) == k).all():
            continue
        if scaled.numel() % (n_experts * n_tokens) == 0:
            rows = scaled.reshape(n_experts, n_tokens, -1)
            if (rows.abs().sum(-1).T.bool() <= chosen).all():
                weights, ids = given.topk(k, dim=-1)
                return Handed(ids, weights)
    return None


def scores_of(given: Sequence[Tensor], n_tokens: int) -> dict[int, Tensor]:
    """Those of a gate's tensors that may hold a number for each choice, as [tokens, n_choices]."""
    return {
        index: tensor.reshape(n_tokens, -1).float()
        for index, tensor in enumerate(given)
        if tensor.is_floating_point()
        and tensor.shape[-1] > 1
        and tensor.numel() == n_tokens * tensor.shape[-1]
    }


def _source(scores: Mapping[int, Tensor], handed: Handed) -> tuple[str, int] | None:
    """What made the handed weights of which of a gate's tensors; None where nothing known did.

    The weights of a token are proportional to the scores of its choices. Where they are not, as
    with weights scaled for each expert, the choices must be the largest of the tensor.
    """
    k, last = handed.choice_ids.shape[1], int(handed.choice_ids.max())
    fit = {index: output for index, output in scores.items() if output.shape[1] > max(k, last)}
    for name, log_score in LOG_SCORES.items():
        for index, output in fit.items():
            if _explains(log_score(output).gather(1, handed.choice_ids).exp(), handed.weights):
                return name, index
    for index, output in fit.items():
        largest = output.topk(k, dim=-1).indices
        if torch.equal(largest.sort(-1).values, handed.choice_ids.sort(-1).values):
            return "as given" if _adds_up(output) else "softmax", index
    return None


def _adds_up(output: Float[Tensor, "n n_choices"]) -> bool:
    sums = output.sum(-1)
    return bool((output >= 0).all() and torch.allclose(sums, torch.ones_like(sums), atol=1e-3))


def _explains(scores: Float[Tensor, "n k"], weights: Float[Tensor, "n k"]) -> bool:
    used = (weights > 0).all(-1)
    if not used.any() or not torch.isfinite(scores).all():
        return False
    scores, weights = scores[used], weights[used]
    if scores.shape[1] == 1:  # no proportion within a token: the factor is that of all tokens
        factor = weights / scores
        return bool(torch.allclose(factor, factor.mean().expand_as(factor), rtol=1e-3))
    shares = [x / x.sum(-1, keepdim=True) for x in (scores, weights)]
    return bool(torch.allclose(*shares, rtol=1e-3, atol=1e-4))


def tensors(value: Any) -> list[Tensor]:
    """The tensors of a call's arguments or results, in order."""
    if isinstance(value, Tensor):
        return [value.detach()]
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in tensors(part)]
    return []


def _is_gate(name: str) -> bool:
    return name.rpartition(".")[2] in _GATE_NAMES and ".experts." not in name
