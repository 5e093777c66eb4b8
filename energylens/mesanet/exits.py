"""Where a token may stop: the heads that foretell what going on is worth, and who decides by them.

What the blocks still to come are worth to a token is the drop: the energy of the next token when
read out here, less that of the whole model. A head a block foretells it from the block's stream.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from energylens.errors import ModelError
from energylens.mesanet.config import MesaNetConfig

Rule = Literal[
    "fixed depth",
    "random",
    "entropy",
    "predicted energy",
    "predicted drop",
    "previous drop",
    "drop shuffled",
    "oracle",
]
TOLD: tuple[Rule, ...] = ("previous drop", "drop shuffled", "oracle")
"""Rules for comparison, whose scores come from a pass of the whole model: see `told_scores`."""
States = Literal["frozen", "skipped"]


@dataclass(frozen=True)
class ExitPolicy:
    """When a token stops: after the first block where its score is under the block's threshold."""

    rule: Rule
    thresholds: tuple[float, ...]
    """One for each block but the last; -inf stops none there, inf all."""
    states: States = "frozen"
    """What later blocks see of a stopped token. frozen: its last vector stands for it, and keys,
    values and updates of mesa states are made of that, as in CALM (Schuster et al., 2022); no
    token is ever missing, which is how the model was trained. skipped: nothing, as if it were
    padding; cheaper, but a block sees texts with holes, which it never saw in training."""
    seed: int = 0
    """Of the rules that draw."""

    def check(self, config: MesaNetConfig, is_told: bool) -> None:
        """Whether a model can follow it.

        Raises:
            ModelError: it cannot.
        """
        blocks = config.num_hidden_layers - 1
        if len(self.thresholds) != blocks:
            raise ModelError(
                f"the policy has {len(self.thresholds)} thresholds and the model {blocks + 1} "
                "blocks, of which all but the last need one; calibrate it on this model"
            )
        needs = {"predicted drop": config.exits, "predicted energy": config.exit_energy}
        if not needs.get(self.rule, True):
            option = "--exits --exit-energy" if self.rule == "predicted energy" else "--exits"
            raise ModelError(
                f"the model has no heads for the rule '{self.rule}'; train it with {option}"
            )
        if self.rule in TOLD and not is_told:
            raise ModelError(
                f"the rule '{self.rule}' reads scores of the whole model's pass: give them as "
                "`told`, or take another rule"
            )
        if "shuffled" in f"{config.energy} {config.budget}" or config.router_features_shuffled:
            raise ModelError(
                "routers that are told of another text need it whole; give a model with another "
                "energy and budget, and features of its own text"
            )


class ExitHeads(nn.Module):
    """For each block but the last, linear maps of its stream, scaled to unit power, that foretell
    nats: the drop and, where asked, the energy of stopping. No gradient passes to the stream."""

    def __init__(self, config: MesaNetConfig) -> None:
        super().__init__()
        blocks, heads = config.num_hidden_layers - 1, 1 + config.exit_energy
        self.weight = nn.Parameter(torch.zeros(blocks, heads, config.hidden_size))
        self.bias = nn.Parameter(torch.zeros(blocks, heads))

    def forward(self, layer: int, x: Float[Tensor, "n d_model"]) -> Float[Tensor, "n heads"]:
        """What the heads after block `layer` say of its stream."""
        unit = functional.rms_norm(x.detach().float(), x.shape[-1:])
        return functional.linear(unit, self.weight[layer].float(), self.bias[layer].float())


@dataclass(frozen=True)
class Asked:
    """The n tokens after a block that are asked whether to stop."""

    layer: int
    x: Float[Tensor, "n d_model"]
    ids: Int[Tensor, " n"]
    place: Int[Tensor, " n"]
    told: Float[Tensor, " n"] | None


def exit_scores(
    policy: ExitPolicy,
    asked: Asked,
    heads: ExitHeads | None,
    entropy: Callable[[Tensor], Tensor],
) -> Float[Tensor, " n"]:
    """The score of each token by the policy's rule: the lowest stop first."""
    if policy.rule in TOLD:
        assert asked.told is not None, "the policy was checked"
        return asked.told
    if policy.rule == "entropy":
        return entropy(asked.x)
    if policy.rule in ("fixed depth", "random"):
        return drawn(asked.ids, asked.place, policy.seed * 64 + asked.layer)
    assert heads is not None, "the policy was checked"
    return heads(asked.layer, asked.x)[:, int(policy.rule == "predicted energy")]


def drawn(ids: Int[Tensor, " n"], place: Int[Tensor, " n"], seed: int) -> Float[Tensor, " n"]:
    """Numbers in [0, 1) that look random, of token and place alone: the same in any batch."""
    x = ids * 8191 + place + (seed + 1) * 2_654_435_761
    for factor in (2_246_822_519, 3_266_489_917):
        x = (x ^ (x >> 15)) * factor % (1 << 31)
    return (x ^ (x >> 16)).double().div(float(1 << 31)).float()


def told_scores(
    rule: Rule,
    drop: Float[Tensor, "blocks batch pos"],
    foretold: Float[Tensor, "blocks batch pos"],
    seed: int = 0,
) -> Float[Tensor, "blocks batch pos"]:
    """Scores of a rule of TOLD, from a pass of the whole model.

    `drop` is the true one, which holds the next token, NaN where that is not known; `foretold` what
    the heads say, NaN for padding. `oracle` is the true one; `previous drop` that of the token
    before, known when a token is read; both have their median where there is none. `drop shuffled`
    deals the foretold ones to other tokens.
    """
    if rule == "drop shuffled":
        real = ~foretold[0].isnan()
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(int(real.sum()), generator=generator)
        dealt = foretold.clone()
        dealt[:, real] = foretold[:, real][:, order]
        return dealt
    if rule == "previous drop":
        drop = functional.pad(drop, (1, 0), value=math.nan)[..., :-1]
    middle = drop.flatten(1).nanmedian(1).values[:, None, None]
    return torch.where(drop.isnan(), middle, drop)
