"""Train a MesaNet: next-token loss, the energy head, and balanced anchors."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from energylens.mesanet.anchors import Anchors, Routing, balance_losses
from energylens.mesanet.config import MesaNetConfig
from energylens.mesanet.health import HealthMeter, RouterHealth
from energylens.mesanet.model import MesaNetForCausalLM
from energylens.training.exits import exit_loss
from energylens.training.loop import Progress, TrainingConfig, Watch, train_model


@dataclass(frozen=True)
class MesaNetTrainingConfig(TrainingConfig):
    """The model's settings and the weights of its losses."""

    model: dict[str, Any] = field(default_factory=dict)
    """Arguments of MesaNetConfig."""
    energy_weight: float = 0.01
    """Of the losses of the heads of energy (Huber) and of exits (squared), whose inputs and targets
    pass no gradient on."""
    concentration_weight: float = 0.002
    """Of the mean entropy of the routing, which is made smaller."""
    balance_weight: float = 0.05
    """Of the entropy of the mean routing, which is made larger."""
    z_weight: float = 0.001
    """Of the squared log-sum-exp of router logits (ST-MoE, 2022)."""
    balance_step: float = 0.01
    """Of the loss-free balancing bias."""


def build(config: MesaNetTrainingConfig) -> MesaNetForCausalLM:
    """A model with fresh weights."""
    torch.manual_seed(config.seed)
    return MesaNetForCausalLM(MesaNetConfig(max_position_embeddings=config.n_ctx, **config.model))


@dataclass(frozen=True)
class MesaNetProgress(Progress):
    """What a report of a MesaNet's training says beside."""

    routers: tuple[RouterHealth, ...] = ()
    """One a block; empty where nothing is routed."""


def train(
    config: MesaNetTrainingConfig,
    ids: Int[np.ndarray, " n"],
    checkpoint: Path,
    watch: Watch[MesaNetForCausalLM],
    device: str = "cpu",
    begin_with: MesaNetForCausalLM | None = None,
) -> MesaNetForCausalLM:
    """Train on packed `ids`, as `train_model` does; reports are of kind MesaNetProgress.

    `begin_with` is a trained model whose weights are the first ones; None draws fresh ones.
    """
    meter = HealthMeter()

    def loss_of(
        model: MesaNetForCausalLM, windows: Int[Tensor, "batch n_ctx"]
    ) -> Float[Tensor, ""]:
        loss, routing = training_loss(model, windows, config)
        if model.config.router != "dense":
            meter.add(routing)
        return loss

    def report(progress: Progress) -> None:
        watch.report(MesaNetProgress(**vars(progress), routers=meter.read()))

    model = build(config) if begin_with is None else begin_with.float()
    told = replace(watch, report=report)
    return train_model(config, model, loss_of, ids, checkpoint, told, device)


def training_loss(
    model: MesaNetForCausalLM, windows: Int[Tensor, "batch n_ctx"], config: MesaNetTrainingConfig
) -> tuple[Float[Tensor, ""], tuple[Routing, ...]]:
    """Cross-entropy and the small losses beside it, and what the routers did; rebalances the
    anchors on the way."""
    out = model(windows, output_hidden_states=model.config.exits)
    assert out.logits is not None and out.routing is not None, "the model gives both"
    energy = functional.cross_entropy(
        out.logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten(), reduction="none"
    )
    loss = energy.mean()
    target = energy.detach()
    if model.config.exits:
        loss = loss + exit_loss(model, out.hidden_states, windows, target, config.energy_weight)
    for block, routing in zip(model.blocks, out.routing, strict=True):
        predicted = routing.predicted_energy[:, :-1].flatten()
        loss = loss + config.energy_weight * functional.huber_loss(predicted, target)
        if model.config.router == "learned":
            within, marginal, z = balance_losses(routing.logits.flatten(0, 1))
            loss = loss + config.concentration_weight * within - config.balance_weight * marginal
            loss = loss + config.z_weight * z
            anchors = block.anchors
            assert isinstance(anchors, Anchors), "every block has anchors"
            anchors.rebalance(routing, config.balance_step)
    return loss, out.routing
