"""The training loop of every language model here: AdamW, warm-up and cosine, clipped gradients.

The budget is in tokens. A checkpoint holds weights, buffers and optimiser state in safetensors; the
same call goes on from it and ends at the same weights.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from energylens.errors import TrainingError
from energylens.training.corpus import Windows

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class TrainingConfig:
    """The length of a training and its pace."""

    n_ctx: int = 256
    n_tokens: int = 6_000_000
    """Budget: how many tokens the training reads."""
    batch_size: int = 8
    """Windows in a step."""
    learning_rate: float = 3e-3
    """At the top of the warm-up; the cosine ends at a tenth of it."""
    seed: int = 0

    @property
    def n_steps(self) -> int:
        """Optimiser steps within the budget."""
        return self.n_tokens // (self.batch_size * self.n_ctx)


@dataclass(frozen=True)
class Progress:
    """What one report of the training says."""

    step: int
    n_steps: int
    loss: float
    """Mean loss of the steps since the last report."""
    tokens_per_second: float
    seconds_per_step: float


Model = TypeVar("Model", bound=nn.Module)


def train_model(
    config: TrainingConfig,
    model: Model,
    loss_of: Callable[[Model, Int[Tensor, "batch n_ctx"]], Float[Tensor, ""]],
    ids: Int[np.ndarray, " n"],
    checkpoint: Path,
    report: Callable[[Progress], None],
    report_every: int = 50,
    save_every: int = 500,
) -> Model:
    """Train on packed `ids` until the budget is spent; go on from `checkpoint` where it exists.

    Raises:
        TrainingError: there are too few tokens for one step, the checkpoint is of another
            configuration, or the loss stopped being a number.
    """
    windows = Windows(ids, config.n_ctx, config.batch_size, config.seed)
    if windows.steps_per_pass < 1:
        raise TrainingError(
            f"{len(ids):,} tokens of text are too few for one step of "
            f"{config.batch_size} windows of {config.n_ctx}; give more text"
        )
    optimizer = _optimizer(model, config)
    start = _load(checkpoint, config, model, optimizer) if checkpoint.exists() else 0
    model.train()
    losses: list[float] = []
    since = time.perf_counter()
    for step in range(start, config.n_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        loss = loss_of(model, windows.batch(step))
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss of step {step} is {loss.item()}; the checkpoint '{checkpoint}' is the "
                "last good one; lower the learning rate and start again"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        done = step + 1
        if done % report_every == 0 or done == config.n_steps:
            now = time.perf_counter()
            seconds = (now - since) / len(losses)
            rate = config.batch_size * config.n_ctx / seconds
            report(Progress(done, config.n_steps, sum(losses) / len(losses), rate, seconds))
            losses, since = [], now
        if done % save_every == 0 or done == config.n_steps:
            _save(checkpoint, config, model, optimizer, done)
    return model.eval()


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Linear warm-up, then a cosine to a tenth."""
    warm_up = min(50, config.n_steps // 10)
    if step < warm_up:
        return config.learning_rate * (step + 1) / warm_up
    share = (step - warm_up) / max(1, config.n_steps - warm_up)
    return config.learning_rate * (0.55 + 0.45 * math.cos(math.pi * share))


def _optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _save(
    path: Path,
    config: "DataclassInstance",
    model: nn.Module,
    optimizer: torch.optim.AdamW,
    step: int,
) -> None:
    tensors = {f"model.{n}": p.detach().contiguous() for n, p in _weights(model).items()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer.{index}.{key}"] = value.detach().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step), "config": repr(asdict(config))})
    partial.replace(path)


def _load(
    path: Path, config: "DataclassInstance", model: nn.Module, optimizer: torch.optim.AdamW
) -> int:
    with safe_open(path, "pt") as file:
        metadata: dict[str, Any] = file.metadata()
    if metadata["config"] != repr(asdict(config)):
        raise TrainingError(
            f"the checkpoint '{path}' was made with other settings ({metadata['config']}); "
            "repeat them, or give another output directory"
        )
    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in _weights(model).items():
            parameter.copy_(tensors[f"model.{name}"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(metadata["step"])
