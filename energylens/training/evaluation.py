"""How well a language model predicts held-out texts, in units that no tokenizer changes."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from energylens.lens.batching import batches, pad

_BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Heldout:
    """Texts of one category; a text longer than the context is read in pieces."""

    category: str
    n_texts: int
    n_bytes: int
    n_tokens: int
    nats: float
    """Energy of all tokens together."""

    @property
    def bits_per_byte(self) -> float:
        """Bits the model needs for a byte of text."""
        return self.nats / math.log(2) / max(self.n_bytes, 1)

    @property
    def perplexity(self) -> float:
        """exp of the mean energy of a token; depends on the tokenizer."""
        return math.exp(self.nats / max(self.n_tokens, 1))


def heldout(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    n_ctx: int,
    texts: Iterable[tuple[str, str]],
) -> list[Heldout]:
    """Measure texts, given as (category, text); one row a category, in order, and `all` last.

    Each piece begins with BOS where the tokenizer has one, so every token of the text is predicted.
    """
    by_category: dict[str, list[str]] = {}
    for category, text in texts:
        by_category.setdefault(category, []).append(text)
    rows = [
        _measure(model, tokenizer, n_ctx, name, by_category[name]) for name in sorted(by_category)
    ]
    whole = Heldout(
        "all",
        sum(r.n_texts for r in rows),
        sum(r.n_bytes for r in rows),
        sum(r.n_tokens for r in rows),
        sum(r.nats for r in rows),
    )
    return [*rows, whole]


def _measure(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    n_ctx: int,
    category: str,
    texts: Sequence[str],
) -> Heldout:
    nats, n_tokens = 0.0, 0
    for ids, mask in padded_pieces(tokenizer, n_ctx, texts):
        known = mask[:, 1:]
        energy = next_token_energies(model, ids, mask)[known]
        nats += float(energy.double().sum())
        n_tokens += int(known.sum())
    return Heldout(category, len(texts), sum(len(t.encode()) for t in texts), n_tokens, nats)


def padded_pieces(
    tokenizer: PreTrainedTokenizerBase, n_ctx: int, texts: Iterable[str]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids and masks `[batch, pos]` of the pieces texts are read in, shortest first."""
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    room = n_ctx - len(bos)
    pieces: list[list[int]] = []
    for text in texts:
        ids: Any = tokenizer.encode(text, add_special_tokens=False)
        pieces += [bos + ids[i : i + room] for i in range(0, len(ids), room)]
    for part in batches([len(piece) for piece in pieces], _BATCH_TOKENS):
        yield pad([pieces[i] for i in part])


@torch.no_grad()
def next_token_energies(
    model: PreTrainedModel, ids: Int[Tensor, "batch pos"], mask: Bool[Tensor, "batch pos"]
) -> Float[Tensor, "batch next"]:
    """Energy of every token after the first under the model's own head, nats, on the CPU."""
    device = model.device
    logits = model(ids.to(device), attention_mask=mask.long().to(device)).logits
    energy = functional.cross_entropy(
        logits[:, :-1].float().flatten(0, 1), ids[:, 1:].to(device).flatten(), reduction="none"
    )
    return energy.view(len(ids), -1).cpu()
