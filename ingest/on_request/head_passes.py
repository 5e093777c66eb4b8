"""A run's model over its texts once more, batch by batch, as heads are looked at."""

from collections.abc import Callable, Iterable, Iterator

from energylens.ingest.corpus import Context
from energylens.ingest.plan import Loaded
from energylens.ingest.run import blocks
from energylens.lens.batching import Batch, batch_of, batches

_MOST_NUMBERS = 1 << 25
"""Attention of a layer that is held at once, where a batch has more than one context."""


def text_blocks(
    loaded: Loaded, is_wanted: Callable[[int], bool] = lambda context_id: True
) -> Iterator[list[Context]]:
    """The contexts of all texts, or some of them, a block at a time."""
    contexts = (
        context
        for text in loaded.corpus.texts(lambda _: True)
        for context in loaded.corpus.contexts(text, loaded.plan.first_of(text))
        if is_wanted(context.context_id)
    )
    return (block.contexts for block in blocks(contexts))


def head_batches(
    loaded: Loaded, n_heads: int, contexts: list[Context]
) -> Iterator[tuple[list[Context], Batch]]:
    """Contexts of like length together, few enough for all attention of a layer to be held."""
    n_ctx = loaded.corpus.n_ctx
    fitting = _MOST_NUMBERS // (n_heads * n_ctx)
    batch_tokens = max(n_ctx, min(loaded.instruments.batch_tokens, fitting))
    lengths = [len(context.ids) for context in contexts]
    for part in batches(lengths, batch_tokens, loaded.instruments.model.regime):
        chosen = [contexts[i] for i in part]
        yield chosen, batch_of([(c.ids, c.next_ids) for c in chosen])


def count_tokens(contexts: Iterable[Context]) -> int:
    """Tokens of some contexts."""
    return sum(len(context.ids) for context in contexts)
