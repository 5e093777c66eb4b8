"""Blocks of activations: some chunks of a source, mixed. A block is a function of its number, so a
training that goes on reads its block again instead of having stored it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.errors import TrainingError
from energylens.training.saes.source import Source

Tell = Callable[[str, int, int, str], None]
"""Hears how far a phase is: its name, what is done, of how many, and the unit."""


@dataclass(frozen=True)
class Block:
    """Activations of the same tokens at each hook, and the order they are trained on in."""

    number: int
    pools: dict[str, Float[Tensor, "n d_in"]]
    order: Int[Tensor, " n"]
    batch_size: int
    where: str
    """Which part of the data it is, as a clause."""

    @property
    def n_batches(self) -> int:
        """Whole batches; the rest is left out."""
        return len(self.order) // self.batch_size

    def batch(self, number: int) -> dict[str, Float[Tensor, "batch d_in"]]:
        """One batch at each hook."""
        rows = self.order[number * self.batch_size : (number + 1) * self.batch_size]
        return {hook: pool[rows] for hook, pool in self.pools.items()}


class Blocks:
    """Reads blocks of a source."""

    def __init__(
        self,
        source: Source,
        n_tokens: int,
        batch_size: int,
        seed: int,
        tell: Tell,
        stopped: Callable[[], bool],
    ) -> None:
        """`n_tokens` is how many tokens a block has, about; `stopped` is asked between chunks."""
        self._source, self._batch_size, self._seed = source, batch_size, seed
        self._tell, self._stopped = tell, stopped
        self._n_chunks = -(-max(n_tokens, batch_size) // source.chunk_tokens)

    def read(self, number: int, most_tokens: int | None = None) -> Block:
        """A block, or its beginning of about `most_tokens`.

        Raises:
            TrainingError: it holds less than a batch, or what is no number.
            KeyboardInterrupt: the training was asked to stop.
        """
        n = self._n_chunks
        first = number * n
        if most_tokens is not None:
            n = min(n, -(-max(most_tokens, self._batch_size) // self._source.chunk_tokens))
        chunks: list[dict[str, Tensor]] = []
        phase = "first activations" if number == 0 else "activations"
        with torch.random.fork_rng(devices=[]):  # what a model draws never moves the SAEs' draws
            for index in range(n):
                if self._stopped():
                    raise KeyboardInterrupt
                done, total = index * self._source.chunk_tokens, n * self._source.chunk_tokens
                self._tell(phase, done, total, "tokens")
                chunks.append(self._source.chunk(first + index))
        self._tell(phase, n * self._source.chunk_tokens, n * self._source.chunk_tokens, "tokens")
        where = self._source.where(first, first + n)
        pools = {hook: torch.cat([chunk[hook] for chunk in chunks]) for hook in chunks[0]}
        for hook, pool in pools.items():
            if not torch.isfinite(pool).all():
                raise TrainingError(
                    f"the activations at {hook} hold NaN or infinity in the {where}; the model "
                    "cannot be trusted there: look at these texts, or give --dtype float32"
                )
        count = len(next(iter(pools.values())))
        if count < self._batch_size:
            raise TrainingError(
                f"a block of activations holds {count:,}, and a batch takes {self._batch_size:,}; "
                "give more text, or a smaller --batch"
            )
        order = np.random.default_rng((self._seed, number)).permutation(count)
        return Block(number, pools, torch.from_numpy(order), self._batch_size, where)
