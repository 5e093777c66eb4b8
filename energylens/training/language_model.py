"""Train a small Llama-shaped language model from texts, within a budget of tokens."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from energylens.training.loop import TrainingConfig, Watch, train_model


@dataclass(frozen=True)
class LanguageModelConfig(TrainingConfig):
    """The size of the model and the length of its training."""

    vocab_size: int = 4096
    d_model: int = 128
    n_layers: int = 4
    n_heads: int = 4


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
    watch: Watch[LlamaForCausalLM],
    device: str = "cpu",
) -> LlamaForCausalLM:
    """Train a Llama on packed `ids`, as `train_model` does."""
    return train_model(config, build(config), next_token_loss, ids, checkpoint, watch, device)


def next_token_loss(
    model: LlamaForCausalLM, windows: Int[Tensor, "batch n_ctx"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy of each next token of the windows, in nats."""
    logits = model(input_ids=windows).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten())
