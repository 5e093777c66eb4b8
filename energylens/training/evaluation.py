"""How well a language model predicts held-out texts, in units that no tokenizer changes."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from energylens.energy import lens_energies
from energylens.models import LanguageModel, run_hooks

_BATCH = 8


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


def heldout(model: LanguageModel, texts: Iterable[tuple[str, str]]) -> list[Heldout]:
    """Measure texts, given as (category, text); one row a category, in order, and `all` last.

    Each piece begins with BOS where the model has one, so every token of the text is predicted.
    """
    by_category: dict[str, list[str]] = {}
    for category, text in texts:
        by_category.setdefault(category, []).append(text)
    rows = [_measure(model, name, by_category[name]) for name in sorted(by_category)]
    whole = Heldout(
        "all",
        sum(r.n_texts for r in rows),
        sum(r.n_bytes for r in rows),
        sum(r.n_tokens for r in rows),
        sum(r.nats for r in rows),
    )
    return [*rows, whole]


def _measure(model: LanguageModel, category: str, texts: Sequence[str]) -> Heldout:
    bos = [] if model.bos_id is None else [model.bos_id]
    room = model.n_ctx - len(bos)
    pieces: list[list[int]] = []
    for text in texts:
        ids = model.tokenizer.encode(text, add_special_tokens=False)
        pieces += [bos + ids[i : i + room] for i in range(0, len(ids), room)]
    pieces.sort(key=len)
    nats, n_tokens = 0.0, 0
    last = model.resid_post(model.n_layers - 1)
    for first in range(0, len(pieces), _BATCH):
        batch = pieces[first : first + _BATCH]
        longest = max(map(len, batch))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
        mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in batch])
        _, cache = run_hooks(model, ids, mask.long(), [last])
        known = mask[:, 1:]
        read = lens_energies(model.readout, cache[last][:, :-1][known], ids[:, 1:][known])
        nats += float(read.energy.double().sum())
        n_tokens += int(known.sum())
    return Heldout(category, len(texts), sum(len(t.encode()) for t in texts), n_tokens, nats)
