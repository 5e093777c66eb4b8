"""What routing causes in a MesaNet: its energy permuted, its anchors taken away one at a time.

A correlation of routing with energy may have any cause. Here the energy a router sees is exchanged
among the tokens of a batch, and the choices and energies that change are counted; and the writes of
one anchor are left out, where the tokens that used it are held against those that did not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from energylens.errors import UsageError
from energylens.lens.batching import Batch
from energylens.lens.energy import NO_NEXT
from energylens.lens.models import LanguageModel
from energylens.lens.routers import Router, record_routing, routes
from energylens.mesanet.hooked import HookedMesaNet

Hook = tuple[str, Callable[..., Tensor]]


@dataclass(frozen=True)
class Pass:
    """A pass over a batch, at the tokens whose next one is known."""

    p: dict[str, Float[Tensor, "n n_anchors"]]
    """Softmax of each router's logits."""
    choices: dict[str, Int[Tensor, "n k"]]
    """The strongest first."""
    energy: Float[Tensor, " n"]
    """Of the model's own prediction, nats."""


@dataclass(frozen=True)
class Rerouted:
    """What another energy changed, token by token."""

    total_variation: Float[Tensor, " n"]
    """Of the router's p: half the sum of absolute changes."""
    moved: Bool[Tensor, " n"]
    """The first choice is another."""
    energy_change: Float[Tensor, " n"]
    """Nats; positive where the model predicts worse."""


@dataclass(frozen=True)
class Ablated:
    """What leaving out an anchor changed, token by token."""

    used: Bool[Tensor, " n"]
    """The token had gone to the anchor."""
    energy_change: Float[Tensor, " n"]


def anchor_routers(model: LanguageModel, routers: Sequence[Router]) -> tuple[Router, ...]:
    """The routers of a MesaNet.

    Raises:
        UsageError: the model is another, or routes nothing.
    """
    if not isinstance(model.bridge, HookedMesaNet) or not routers:
        raise UsageError(
            f"'{model.source}' is a {model.model_class} without anchors; effects of routing are "
            "measured on MesaNets that route, such as builtin:mesanet"
        )
    return tuple(routers)


def observe(
    model: LanguageModel, routers: Sequence[Router], batch: Batch, hooks: Sequence[Hook] = ()
) -> Pass:
    """Run a batch, with what the hooks change."""
    known = batch.mask & (batch.next_ids != NO_NEXT)
    bridge = model.bridge
    assert isinstance(bridge, HookedMesaNet), "made sure of by anchor_routers"
    with torch.no_grad(), record_routing(routers) as recorded:
        logits = bridge.run_with_hooks(batch.ids, batch.mask.long(), hooks)
    found = {r.name: routes(recorded[r.name], known.flatten()) for r in routers}
    energy = torch.nn.functional.cross_entropy(
        logits[known].float(), batch.next_ids[known], reduction="none"
    )
    return Pass(
        {name: one.logits.softmax(-1) for name, one in found.items()},
        {name: one.choice_ids for name, one in found.items()},
        energy,
    )


def permute_energy(
    model: LanguageModel,
    routers: Sequence[Router],
    batch: Batch,
    plain: Pass,
    at: Sequence[Router],
    seed: int,
) -> dict[str, Rerouted]:
    """Give tokens the energies other tokens' routers saw, at the routers `at`; by router of `at`.

    The energies of all tokens of the batch that are not padding change places at random.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(int(batch.mask.sum()), generator=generator)

    def permuted(seen: Tensor, hook: object) -> Tensor:
        out = seen.clone()
        out[batch.mask] = seen[batch.mask][order]
        return out

    hooks = [(f"{router.name}.hook_seen_energy", permuted) for router in at]
    changed = observe(model, routers, batch, hooks)
    return {
        r.name: Rerouted(
            0.5 * (changed.p[r.name] - plain.p[r.name]).abs().sum(-1),
            changed.choices[r.name][:, 0] != plain.choices[r.name][:, 0],
            changed.energy - plain.energy,
        )
        for r in at
    }


def ablate_anchor(
    model: LanguageModel,
    routers: Sequence[Router],
    batch: Batch,
    plain: Pass,
    router: Router,
    choice_id: int,
) -> Ablated:
    """Leave out what one anchor writes; the others keep their weights."""

    def without(gates: Tensor, hook: object) -> Tensor:
        out = gates.clone()
        out[..., choice_id] = 0
        return out

    changed = observe(model, routers, batch, [(f"{router.name}.hook_gates", without)])
    used = (plain.choices[router.name] == choice_id).any(-1)
    return Ablated(used, changed.energy - plain.energy)
