"""Train a small Llama-shaped language model from texts, within a budget of tokens.

The loop is AdamW with warm-up and cosine decay and clipped gradients. A checkpoint holds weights
and optimiser state in safetensors; the same command goes on from it and ends at the same weights.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from energylens.errors import TrainingError
from energylens.training.corpus import Windows


@dataclass(frozen=True)
class LanguageModelConfig:
    """The size of the model and the length of its training."""

    vocab_size: int = 4096
    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4
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
    """Mean cross-entropy of the steps since the last report, in nats a token."""
    tokens_per_second: float
    seconds_per_step: float


def build(config: LanguageModelConfig) -> LlamaForCausalLM:
    """A model with fresh weights; tied embeddings, RMSNorm, rotary positions."""
    torch.manual_seed(config.seed)
    llama = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        intermediate_size=config.d_model * 8 // 3 // 32 * 32,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_heads,
        max_position_embeddings=config.n_ctx,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
    )
    return LlamaForCausalLM(llama)


def train(
    config: LanguageModelConfig,
    ids: Int[np.ndarray, " n"],
    checkpoint: Path,
    report: Callable[[Progress], None],
    report_every: int = 50,
    save_every: int = 500,
) -> LlamaForCausalLM:
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
    model = build(config)
    optimizer = _optimizer(model, config)
    start = _load(checkpoint, config, model, optimizer) if checkpoint.exists() else 0
    model.train()
    losses: list[float] = []
    since = time.perf_counter()
    for step in range(start, config.n_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        loss = next_token_loss(model, windows.batch(step))
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


def next_token_loss(
    model: LlamaForCausalLM, windows: Int[Tensor, "batch n_ctx"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of each next token of the windows, in nats."""
    logits = model(input_ids=windows).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten())


def learning_rate(config: LanguageModelConfig, step: int) -> float:
    """Linear warm-up, then a cosine to a tenth."""
    warm_up = min(50, config.n_steps // 10)
    if step < warm_up:
        return config.learning_rate * (step + 1) / warm_up
    share = (step - warm_up) / max(1, config.n_steps - warm_up)
    return config.learning_rate * (0.55 + 0.45 * math.cos(math.pi * share))


def _optimizer(model: LlamaForCausalLM, config: LanguageModelConfig) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def _save(
    path: Path,
    config: LanguageModelConfig,
    model: LlamaForCausalLM,
    optimizer: torch.optim.AdamW,
    step: int,
) -> None:
    tensors = {f"model.{n}": p.detach().contiguous() for n, p in model.named_parameters()}
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer.{index}.{key}"] = value.detach().contiguous()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step), "config": repr(asdict(config))})
    partial.replace(path)


def _load(
    path: Path,
    config: LanguageModelConfig,
    model: LlamaForCausalLM,
    optimizer: torch.optim.AdamW,
) -> int:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    if metadata["config"] != repr(asdict(config)):
        raise TrainingError(
            f"the checkpoint '{path}' was made with other settings ({metadata['config']}); "
            "repeat them, or give another output directory"
        )
    tensors = load_file(path)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model.{name}"])
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(metadata["step"])
