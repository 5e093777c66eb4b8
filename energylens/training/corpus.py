"""Texts as one long row of vocabulary ids, and the windows a training step reads from it."""

from collections.abc import Iterable
from itertools import islice

import numpy as np
import torch
from jaxtyping import Int
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

BOS = "<|endoftext|>"
"""Begins every text in training, and pads; its id is 0."""
_AT_ONCE = 256
"""Texts that are tokenized together, on all cores."""


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: every string has tokens, and they spell it byte for byte."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[BOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS, pad_token=BOS
    )


def pack(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> Int[np.ndarray, " n"]:
    """All texts one after the other as vocabulary ids, BOS before each where there is one."""
    rows: list[np.ndarray] = []
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    left = iter(texts)
    while some := list(islice(left, _AT_ONCE)):
        found = tokenizer(some, add_special_tokens=False, return_attention_mask=False)
        rows += [np.array(bos + ids, dtype=np.int32) for ids in found["input_ids"]]
    return np.concatenate(rows) if rows else np.zeros(0, dtype=np.int32)


class Windows:
    """Windows of `n_ctx` tokens, in an order that `seed` alone decides.

    Each pass shifts the windows by a random offset and shuffles them, so that step `k` reads the
    same tokens whether or not the training was interrupted before it.
    """

    def __init__(self, ids: Int[np.ndarray, " n"], n_ctx: int, batch_size: int, seed: int) -> None:
        self.ids, self.n_ctx, self.batch_size, self.seed = ids, n_ctx, batch_size, seed
        self.steps_per_pass = (len(ids) - n_ctx) // (n_ctx * batch_size)

    def batch(self, step: int) -> Int[Tensor, "batch n_ctx"]:
        """The windows of one step."""
        rows = [self.ids[start : start + self.n_ctx] for start in self.starts(step)]
        return torch.from_numpy(np.stack(rows)).long()

    def starts(self, step: int) -> list[int]:
        """The first token of each window of one step."""
        pass_number, index = divmod(step, self.steps_per_pass)
        order = np.random.default_rng((self.seed, pass_number))
        offset = int(order.integers(self.n_ctx))
        n_windows = (len(self.ids) - offset) // self.n_ctx
        starts = offset + self.n_ctx * order.permutation(n_windows)
        return starts[index * self.batch_size : (index + 1) * self.batch_size].tolist()
