"""The training loop of every language model here: AdamW, warm-up and cosine, clipped gradients.

The budget is in tokens. The same call goes on from a checkpoint and ends at the same weights.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from energylens.errors import TrainingError
from energylens.training.checkpoint import Checkpoint
from energylens.training.corpus import Windows
from energylens.training.signals import stop_signals


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
    def tokens_per_step(self) -> int:
        """Tokens one optimiser step reads."""
        return self.batch_size * self.n_ctx

    @property
    def n_steps(self) -> int:
        """Optimiser steps within the budget."""
        return self.n_tokens // self.tokens_per_step


@dataclass(frozen=True)
class Progress:
    """What one report of a training says."""

    step: int
    n_steps: int
    n_tokens: int
    """Tokens read so far."""
    loss: float
    """Mean loss of the steps since the last report."""
    tokens_per_second: float
    seconds_per_step: float
    learning_rate: float | None = None
    """None where the trainer keeps it to itself."""
    gradient_norm: float | None = None
    """Largest since the last report, before clipping; None where it is not known."""


Model = TypeVar("Model", bound=PreTrainedModel)


@dataclass(frozen=True)
class Watch(Generic[Model]):
    """Who looks on while a model trains, and how often, in steps."""

    report: Callable[[Progress], None]
    report_every: int = 50
    save_every: int = 250
    evaluate: Callable[[Model, int], None] | None = None
    """Called with the model, in evaluation mode, and the tokens read; None measures nothing."""
    evaluate_every: int = 500


def train_model(
    config: TrainingConfig,
    model: Model,
    loss_of: Callable[[Model, Int[Tensor, "batch n_ctx"]], Float[Tensor, ""]],
    ids: Int[np.ndarray, " n"],
    checkpoint: Path,
    watch: Watch[Model],
    device: str = "cpu",
) -> Model:
    """Train on packed `ids` until the budget is spent; go on from `checkpoint` where it exists.

    Ctrl-C and SIGTERM end the step under way and write a checkpoint before they stop the training.

    Raises:
        TrainingError: there are too few tokens for one step, an id the model does not know, the
            checkpoint is damaged or of another training or cannot be written, or loss or gradient
            stopped being numbers.
        KeyboardInterrupt: the training was asked to stop.
    """
    windows = Windows(ids, config.n_ctx, config.batch_size, config.seed)
    _check(ids, windows, config, model)
    model.to(torch.device(device))  # pyright: ignore[reportArgumentType]
    optimizer = _optimizer(model, config)
    keeper = Checkpoint(checkpoint, config, ids)
    start = keeper.load(model, optimizer) if checkpoint.exists() else 0
    pace = _Pace(config, watch.report)
    model.train()
    with stop_signals() as stopped:
        for step in range(start, config.n_steps):
            _take(model, optimizer, loss_of, windows, config, step, keeper, pace)
            done = step + 1
            if done % watch.report_every == 0 or done == config.n_steps:
                pace.tell(done)
            if done % watch.save_every == 0 or done == config.n_steps or stopped():
                keeper.save(model, optimizer, done)
            if stopped():
                raise KeyboardInterrupt
            if watch.evaluate and (done % watch.evaluate_every == 0 or done == config.n_steps):
                watch.evaluate(model.eval(), done * config.tokens_per_step)
                model.train()
                pace.restart()
    return model.cpu().eval()


def _take(
    model: Model,
    optimizer: torch.optim.AdamW,
    loss_of: Callable[[Model, Int[Tensor, "batch n_ctx"]], Float[Tensor, ""]],
    windows: Windows,
    config: TrainingConfig,
    step: int,
    keeper: Checkpoint,
    pace: "_Pace",
) -> None:
    """One step; a loss or gradient that is no number stops it before it touches the weights."""
    rate = learning_rate(config, step)
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss = loss_of(model, windows.batch(step).to(model.device))
    optimizer.zero_grad(set_to_none=True)
    norm = torch.tensor(torch.nan)
    if torch.isfinite(loss):
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if not torch.isfinite(norm):
        what = "gradient" if torch.isfinite(loss) else "loss"
        value = norm.item() if torch.isfinite(loss) else loss.item()
        starts = ", ".join(f"{start:,}" for start in windows.starts(step))
        raise TrainingError(
            f"the {what} of step {step} is {value}, in the windows that begin at tokens {starts}; "
            f"{keeper.last_good()}; lower the learning rate, or look at these texts"
        )
    optimizer.step()
    pace.add(loss.item(), norm.item(), rate)


def _check(
    ids: Int[np.ndarray, " n"], windows: Windows, config: TrainingConfig, model: PreTrainedModel
) -> None:
    if windows.steps_per_pass < 1:
        raise TrainingError(
            f"{len(ids):,} tokens of text are too few for one step of "
            f"{config.batch_size} windows of {config.n_ctx}; give more text"
        )
    known = int(model.config.vocab_size)
    if ids.max() >= known:
        raise TrainingError(
            f"the texts hold token {ids.max():,}, and the model knows {known:,}; "
            "tokenize them with the model's own tokenizer"
        )


class _Pace:
    """Losses and times since the last report."""

    def __init__(self, config: TrainingConfig, report: Callable[[Progress], None]) -> None:
        self.config, self.report = config, report
        self.restart()

    def restart(self) -> None:
        """Forget what was added; time counts from now."""
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.rate = 0.0
        self.since = time.perf_counter()

    def add(self, loss: float, gradient_norm: float, rate: float) -> None:
        """One step was taken."""
        self.losses.append(loss)
        self.norms.append(gradient_norm)
        self.rate = rate

    def tell(self, done: int) -> None:
        """Report on the steps since the last report, and begin again."""
        if not self.losses:
            return
        seconds = (time.perf_counter() - self.since) / len(self.losses)
        self.report(
            Progress(
                step=done,
                n_steps=self.config.n_steps,
                n_tokens=done * self.config.tokens_per_step,
                loss=sum(self.losses) / len(self.losses),
                tokens_per_second=self.config.tokens_per_step / seconds,
                seconds_per_step=seconds,
                learning_rate=self.rate,
                gradient_norm=max(self.norms),
            )
        )
        self.restart()


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
