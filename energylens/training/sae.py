"""Train SAEs on a model's activations with sae-lens: several hooks in one pass over the text.

Batch top-k (Bussmann et al. 2024) with the auxiliary loss for dead features; saved as the
JumpReLU SAE it becomes at inference.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig, LoggingConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.sae import SAEMetadata
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import load_file, save_file
from torch import Tensor

from energylens.errors import TrainingError
from energylens.lens.models import LanguageModel, run_hooks
from energylens.lens.pieces import special_ids
from energylens.training.corpus import Windows
from energylens.training.loop import Progress

_BUFFER_TOKENS = 1 << 16
"""Activations of so many tokens are mixed before training on half of them."""


@dataclass(frozen=True)
class SaeTrainingConfig:
    """What the SAEs are to be and how long they are trained."""

    hook_names: tuple[str, ...]
    d_sae: int
    k: float
    """Features active a token, on average over a batch."""
    n_tokens: int
    """Budget: activations each SAE is trained on."""
    n_ctx: int = 256
    batch_size: int = 2048
    """Activations in a step."""
    learning_rate: float = 1e-3
    seed: int = 0

    @property
    def n_steps(self) -> int:
        """Optimiser steps within the budget."""
        return self.n_tokens // self.batch_size


def train_saes(
    model: LanguageModel,
    ids: Int[np.ndarray, " n"],
    config: SaeTrainingConfig,
    report: Callable[[Progress], None],
    report_every: int = 50,
) -> dict[str, BatchTopKTrainingSAE]:
    """Train one SAE for each hook on packed `ids`; by hook name.

    Raises:
        ModelError: the model lacks a hook.
        TrainingError: there are too few tokens, or a loss stopped being a number.
    """
    for hook in config.hook_names:
        model.check_hook(hook)
    return train_on(_activations(model, ids, config), model, config, report, report_every)


def train_on(
    stream: Iterator[dict[str, Float[Tensor, "batch d_in"]]],
    model: LanguageModel,
    config: SaeTrainingConfig,
    report: Callable[[Progress], None],
    report_every: int = 50,
) -> dict[str, BatchTopKTrainingSAE]:
    """Train one SAE for each hook on batches of its activations; the first sets their scale.

    Raises:
        TrainingError: a loss stopped being a number.
    """
    first = next(stream)
    trainers = {hook: _trainer(hook, first[hook], model, config) for hook in config.hook_names}
    last = first
    losses: list[float] = []
    since = time.perf_counter()
    for step, batches in zip(range(config.n_steps), stream, strict=False):
        last = batches
        for hook, trainer in trainers.items():
            trainer.maybe_reset_sparsity()
            loss = trainer.step(batches[hook]).loss.item()
            trainer.n_training_steps += 1
            if not np.isfinite(loss):
                raise TrainingError(
                    f"the loss of the SAE at {hook} is {loss} in step {step}; "
                    "lower the learning rate and start again"
                )
            losses.append(loss)
        if (step + 1) % report_every == 0 or step + 1 == config.n_steps:
            now = time.perf_counter()
            mean, seconds = sum(losses) / len(losses), (now - since) * len(trainers) / len(losses)
            rate = config.batch_size / seconds
            done = step + 1
            read = done * config.batch_size
            report(Progress(done, config.n_steps, read, mean, rate, seconds))
            losses, since = [], now
    return {hook: _finish(trainer, last[hook]) for hook, trainer in trainers.items()}


def save_sae(sae: BatchTopKTrainingSAE, directory: Path, float16: bool = False) -> None:
    """Write the SAE as sae-lens does for inference: `cfg.json` and `sae_weights.safetensors`.

    `float16` stores the weights in half the size; whoever loads them computes in float32.
    """
    directory.mkdir(parents=True, exist_ok=True)
    sae.save_inference_model(str(directory))
    if float16:
        path = directory / "sae_weights.safetensors"
        halves = {name: value.half() for name, value in load_file(path).items()}
        save_file(halves, path)


def _activations(
    model: LanguageModel, ids: Int[np.ndarray, " n"], config: SaeTrainingConfig
) -> Iterator[dict[str, Float[Tensor, "batch d_in"]]]:
    """Mixed activations of text tokens, a batch for each hook; the first is the whole buffer."""
    windows = Windows(ids, config.n_ctx, batch_size=8, seed=config.seed)
    if windows.steps_per_pass < 1:
        raise TrainingError(f"{len(ids):,} tokens of text are too few to train an SAE on")
    special = torch.tensor(special_ids(model.tokenizer))
    generator = torch.Generator().manual_seed(config.seed)
    held: dict[str, Tensor] = {}
    step, announced = 0, False
    while True:
        fresh: dict[str, list[Tensor]] = {hook: [] for hook in config.hook_names}
        n = len(next(iter(held.values()))) if held else 0
        while n < _BUFFER_TOKENS:
            batch = windows.batch(step)
            step += 1
            _, cache = run_hooks(model, batch, torch.ones_like(batch), config.hook_names)
            keep = ~torch.isin(batch, special)
            keep[:, 0] = False
            for hook in config.hook_names:
                fresh[hook].append(cache[hook][keep].float().flatten(1))
            n += int(keep.sum())
        order = torch.randperm(n, generator=generator)
        pools = {
            hook: torch.cat([*([held[hook]] if held else []), *fresh[hook]])[order]
            for hook in config.hook_names
        }
        if not announced:
            announced = True
            yield pools
        cut = n // 2 // config.batch_size * config.batch_size
        for start in range(0, cut, config.batch_size):
            yield {h: pool[start : start + config.batch_size] for h, pool in pools.items()}
        held = {hook: pool[cut:] for hook, pool in pools.items()}


def _trainer(
    hook: str,
    sample: Float[Tensor, "n d_in"],
    model: LanguageModel,
    config: SaeTrainingConfig,
) -> SAETrainer:
    d_in = sample.shape[1]
    metadata = SAEMetadata(
        model_name=model.source,
        hook_name=hook,
        context_size=config.n_ctx,
        prepend_bos=model.bos_id is not None,
        declared_l0=config.k,
    )
    torch.manual_seed(config.seed)
    sae = BatchTopKTrainingSAE(
        BatchTopKTrainingSAEConfig(
            d_in=d_in,
            d_sae=config.d_sae,
            k=config.k,
            normalize_activations="expected_average_only_in",
            metadata=metadata,
        )
    )
    trainer = SAETrainer(
        cfg=SAETrainerConfig(
            total_training_samples=config.n_steps * config.batch_size,
            train_batch_size_samples=config.batch_size,
            lr=config.learning_rate,
            lr_end=config.learning_rate / 10,
            lr_warm_up_steps=min(100, config.n_steps // 10),
            lr_decay_steps=config.n_steps // 3,
            dead_feature_window=max(48, min(200, config.n_steps // 10)),
            feature_sampling_window=200,
            logger=LoggingConfig(log_to_wandb=False),
        ),
        sae=sae,
        data_provider=iter(()),
    )
    scale = d_in**0.5 / float(sample.norm(dim=1).mean())
    trainer.activation_scaler.scaling_factor = scale
    with torch.no_grad():
        sae.b_dec.copy_(sample.mean(0) * scale)
    return trainer


def _finish(trainer: SAETrainer, batch: Float[Tensor, "n d_in"]) -> BatchTopKTrainingSAE:
    """The SAE as it is stored. Its threshold is what keeps k features a token on `batch`: the
    running mean kept in training starts at 0 and lags behind where training is short."""
    with torch.no_grad():
        codes = trainer.sae.encode(trainer.activation_scaler(batch))
        if (codes > 0).any():
            trainer.sae.topk_threshold.fill_(codes[codes > 0].min())
    scale = trainer.activation_scaler.scaling_factor
    assert scale is not None, "set when the trainer was made"
    trainer.sae.fold_activation_norm_scaling_factor(scale)
    trainer.set_final_sae_metadata()
    return trainer.sae
