"""Contexts of like length in one batch, padded on the right and masked."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from energylens.lens.energy import NO_NEXT


@dataclass(frozen=True)
class Batch:
    """Contexts padded on the right, and the token after each; NO_NEXT where there is none."""

    ids: Int[Tensor, "batch pos"]
    mask: Bool[Tensor, "batch pos"]
    next_ids: Int[Tensor, "batch pos"]


def batch_of(contexts: Sequence[tuple[list[int], list[int]]]) -> Batch:
    """Contexts given as ids and next ids."""
    ids, mask = pad([own for own, _ in contexts])
    next_ids, _ = pad([following for _, following in contexts])
    return Batch(ids, mask, torch.where(mask, next_ids, NO_NEXT))


def batches(
    lengths: Sequence[int],
    batch_tokens: int,
    regime: Callable[[int], object] = lambda length: None,
) -> Iterator[list[int]]:
    """Indices of contexts, shortest first, as many as stay within `batch_tokens` when padded.

    Contexts whose lengths are of another regime never share a batch (`energylens.lens.rope`).
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        full = (len(batch) + 1) * lengths[index] > batch_tokens
        if batch and (full or regime(lengths[index]) != regime(lengths[batch[0]])):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def pad(
    rows: Sequence[Sequence[int]],
) -> tuple[Int[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """Ids and mask `[batch, pos]`, padded on the right with id 0; the mask alone tells padding."""
    longest = max(len(row) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row)
        mask[index, : len(row)] = True
    return ids, mask
