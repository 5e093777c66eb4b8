"""Where activations come from: a model that reads texts, or what a store keeps of one that did."""

import hashlib
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from energylens.errors import TrainingError, UsageError
from energylens.lens.bare import without_other_hooks
from energylens.lens.models import LanguageModel, read_hooks
from energylens.lens.pieces import special_ids
from energylens.training.corpus import Windows

PASS_TOKENS = 2048
"""Tokens of a pass through the model, about: enough for matrix products at full speed."""


@runtime_checkable
class Source(Protocol):
    """Activations in chunks; a chunk is the same whenever it is asked for."""

    facts: dict[str, Any]
    """What an SAE's metadata says of it, and what a checkpoint is compared by."""
    chunk_tokens: int
    """Activations in a chunk, about; a chunk may have fewer."""

    def chunk(self, number: int) -> dict[str, Float[Tensor, "n d_in"]]:
        """Activations of the same tokens at each hook, float32."""
        ...

    def where(self, first: int, end: int) -> str:
        """Which part of the data chunks are, as a clause."""
        ...


class ModelSource:
    """Windows of texts through a model, all hooks in one pass.

    Special tokens and the first token of a window are left out: what an SAE is judged on is text,
    and the norm of a sink would drown everything else.
    """

    def __init__(
        self,
        model: LanguageModel,
        ids: Int[np.ndarray, " n"],
        hook_names: tuple[str, ...],
        n_ctx: int,
        seed: int,
        texts: str,
    ) -> None:
        """`ids` are packed texts, `texts` where they come from.

        Raises:
            ModelError: the model lacks a hook.
            UsageError: it does not take contexts of this length.
            TrainingError: there is too little text.
        """
        for hook in hook_names:
            model.check_hook(hook)
        if not 2 <= n_ctx <= model.n_ctx:
            raise UsageError(
                f"--n-ctx {n_ctx} is outside 2 to {model.n_ctx:,}, what the model takes"
            )
        self._model, self._hooks = model, hook_names
        n_windows = max(1, min(PASS_TOKENS, len(ids) - n_ctx) // n_ctx)
        self._windows = Windows(ids, n_ctx, n_windows, seed)
        if self._windows.steps_per_pass < 1:
            raise TrainingError(
                f"{len(ids):,} tokens of text are too few to train an SAE on in windows of "
                f"{n_ctx} tokens; give more text, or a smaller --n-ctx"
            )
        self._special = torch.tensor(special_ids(model.tokenizer), dtype=torch.long)
        self.chunk_tokens = n_windows * (n_ctx - 1)
        self.facts = {
            "model_name": model.source,
            "model_sha256": model.weights_sha256,
            "model_dtype": model.dtype,
            "context_size": n_ctx,
            "prepend_bos": model.bos_id is not None,
            "texts": texts,
            "texts_sha256": hashlib.sha256(ids.tobytes()).hexdigest(),
        }

    def chunk(self, number: int) -> dict[str, Float[Tensor, "n d_in"]]:
        """Activations of the text tokens of some windows."""
        ids = self._windows.batch(number)
        keep = ~torch.isin(ids, self._special)
        keep[:, 0] = False
        with without_other_hooks(self._model.bridge, self._hooks):
            found = read_hooks(self._model, ids, self._hooks)
        return {hook: found[hook][keep].float().flatten(1) for hook in self._hooks}

    def where(self, first: int, end: int) -> str:
        """Where the windows begin."""
        starts = sorted(start for n in range(first, end) for start in self._windows.starts(n))
        return f"windows of the texts that begin at tokens {starts[0]:,} to {starts[-1]:,}"


class KeptSource:
    """Activations that are kept, read a range of tokens at a time in an order that `seed` decides;
    each pass has its own."""

    def __init__(
        self,
        read: Callable[[int, str], Float[np.ndarray, "n d_in"]],
        n_ranges: int,
        range_tokens: int,
        hook_names: tuple[str, ...],
        seed: int,
        facts: dict[str, Any],
    ) -> None:
        """`read` gives the activations of one range at one hook, of the same tokens at each."""
        self._read, self._n, self._hooks, self._seed = read, n_ranges, hook_names, seed
        self.chunk_tokens, self.facts = range_tokens, facts

    def chunk(self, number: int) -> dict[str, Float[Tensor, "n d_in"]]:
        """Activations of one range of tokens."""
        place = self._range(number)
        found = {hook: torch.from_numpy(self._read(place, hook)) for hook in self._hooks}
        counts = {hook: len(rows) for hook, rows in found.items()}
        if len(set(counts.values())) > 1:
            said = ", ".join(f"{n:,} at {hook}" for hook, n in counts.items())
            raise TrainingError(
                f"the kept activations do not go together: {said}; keep them again, or train one "
                "hook at a time"
            )
        return found

    def where(self, first: int, end: int) -> str:
        """Which ranges were read."""
        places = sorted(self._range(number) for number in range(first, end))
        return f"ranges {', '.join(map(str, places))} of {self.chunk_tokens:,} tokens of the run"

    def _range(self, number: int) -> int:
        pass_number, index = divmod(number, self._n)
        return int(np.random.default_rng((self._seed, pass_number)).permutation(self._n)[index])
