"""Contexts that show what a head does, from where it attends weakly to where it does most.

They are ordered by the head's largest attention in them, first row and column left out, since the
first token is a sink in many models, and cut into intervals of as many. The highest interval gives
its strongest, each other one a sample. One pass finds the largest attention of every head in every
context, a second one reads what was chosen; no attention of the rest is kept.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor

from energylens.ingest.corpus import Context
from energylens.ingest.on_request.head_passes import head_batches, text_blocks
from energylens.ingest.on_request.labels import Labels
from energylens.ingest.plan import Loaded
from energylens.ingest.progress import Progress
from energylens.lens.circuits.patterns import LayerHeads, read_patterns
from energylens.lens.circuits.weights import HeadWeights

N_INTERVALS, N_STRONGEST, N_SAMPLED = 5, 10, 3
"""Intervals, contexts of the highest one, and of each other."""
MOST_KEYS, LEAST = 8, 0.005
"""Of the attention of a token: how many keys are kept, and none below."""


@dataclass(frozen=True)
class ShownContext:
    """A context that a head is shown in."""

    context_id: int
    interval: int
    """1 for the weakest."""
    tokens: list[str]
    places: np.ndarray
    """Query times length plus key, ascending."""
    attention: np.ndarray
    largest: float
    """First row and column left out."""


@dataclass(frozen=True)
class ShownHeads:
    """Made by `show_heads`."""

    largest: Float[np.ndarray, "context layer head"]
    """The largest attention in every context of two tokens and more."""
    by_head: dict[tuple[int, int], list[ShownContext]]
    """By layer and head."""


_Chosen = dict[int, dict[int, list[tuple[int, int]]]]
"""By context and layer: heads, with the interval the context stands for."""


def show_heads(loaded: Loaded, weights: HeadWeights, progress: Progress) -> ShownHeads:
    """Choose and read the contexts of every head."""
    numbers, largest = _largest(loaded, weights, progress)
    chosen = _chosen(numbers, largest)
    labels = Labels(loaded.instruments.model)
    by_head: dict[tuple[int, int], list[ShownContext]] = defaultdict(list)
    done = 0
    for block in text_blocks(loaded, chosen.__contains__):
        for contexts, batch in head_batches(loaded, weights.n_heads, block):
            each = partial(_read, by_head, chosen, contexts, labels)
            read_patterns(loaded.instruments.model, weights, batch.ids, batch.mask, each)
            done += len(contexts)
            progress.step("reading", done, len(chosen), "contexts")
    return ShownHeads(largest, by_head)


def _largest(
    loaded: Loaded, weights: HeadWeights, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of contexts of two tokens and more, and each head's largest attention in them."""
    shape = weights.n_layers, weights.n_heads
    numbers, rows = [], [np.zeros((0, *shape), dtype=np.float32)]
    for block in text_blocks(loaded):
        long = [context for context in block if len(context.ids) > 1]
        for contexts, batch in head_batches(loaded, weights.n_heads, long):
            found = np.zeros((len(contexts), *shape), dtype=np.float32)
            each = partial(_note_largest, found, batch.mask)
            read_patterns(loaded.instruments.model, weights, batch.ids, batch.mask, each)
            numbers += [context.context_id for context in contexts]
            rows.append(found)
            progress.step("looking", len(numbers), loaded.plan.n_contexts, "contexts")
    order = np.argsort(numbers)
    return np.array(numbers, dtype=np.int64)[order], np.concatenate(rows)[order]


def _note_largest(found: np.ndarray, real: Tensor, heads: LayerHeads) -> None:
    inside = (heads.pattern * real[:, None, :, None])[:, :, 1:, 1:]
    found[:, heads.layer] = inside.amax((2, 3)).numpy()


def _chosen(numbers: np.ndarray, largest: np.ndarray) -> _Chosen:
    chosen: _Chosen = defaultdict(lambda: defaultdict(list))
    n = len(numbers)
    interval = N_INTERVALS - (n - 1 - np.arange(n)) * N_INTERVALS // max(n, 1)
    for layer, head in np.ndindex(*largest.shape[1:]):
        order = np.argsort(-largest[:, layer, head], kind="stable")[::-1]
        draw = np.random.default_rng((layer, head))
        for number in range(1, N_INTERVALS):
            for place in draw.permutation(order[interval == number])[:N_SAMPLED]:
                chosen[int(numbers[place])][layer].append((head, number))
        for place in order[interval == N_INTERVALS][::-1][:N_STRONGEST]:
            chosen[int(numbers[place])][layer].append((head, N_INTERVALS))
    return chosen


def _read(
    by_head: dict[tuple[int, int], list[ShownContext]],
    chosen: _Chosen,
    contexts: list[Context],
    labels: Labels,
    heads: LayerHeads,
) -> None:
    for row, context in enumerate(contexts):
        for head, interval in chosen[context.context_id][heads.layer]:
            n = len(context.ids)
            pattern = heads.pattern[row, head, :n, :n]
            by_head[heads.layer, head].append(
                ShownContext(
                    context.context_id,
                    interval,
                    [labels[i] for i in context.ids],
                    *_strongest(pattern),
                    float(pattern[1:, 1:].max()),
                )
            )


def _strongest(pattern: Float[Tensor, "query key"]) -> tuple[np.ndarray, np.ndarray]:
    n = len(pattern)
    best = pattern.topk(min(MOST_KEYS, n), dim=1)
    attention = best.values.double().numpy()
    places = np.arange(n)[:, None] * n + best.indices.numpy()
    kept = attention >= LEAST
    order = np.argsort(places[kept])
    return places[kept][order], attention[kept][order]
