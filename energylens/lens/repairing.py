"""What repairing a model is learned from, and the ways that are tried beside gains.

Contexts are read in batches; tokens that count have a next one and are not BOS. The gradient is
that of all energies which follow in the context (`energylens.lens.gradients`, total).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import sparse
from torch import Tensor

from energylens.lens.batching import Batch, batch_of, batches
from energylens.lens.energy import NO_NEXT, lens_energies
from energylens.lens.gate import encode_tokens
from energylens.lens.gradients import lens_hook, model_gradients
from energylens.lens.interventions import Change, Intervention
from energylens.lens.models import EnoughError, LanguageModel, run_hooks, run_until_enough
from energylens.lens.saes import Sae, writes_to_stream
from energylens.stats.repairs import TextSums

Context = tuple[list[int], list[int]]
"""Ids, and the id after each."""
Tick = Callable[[int], None]
"""Hears how many tokens have been read since it last heard."""


@dataclass(frozen=True)
class Part:
    """Contexts of some texts in batches, with the text of every token that counts."""

    batches: tuple[Batch, ...]
    counted: tuple[Bool[Tensor, "_ _"], ...]
    text: Int[np.ndarray, " n"]

    @property
    def n_tokens(self) -> int:
        """Tokens that count."""
        return len(self.text)

    @cached_property
    def labels(self) -> Int[Tensor, " n"]:
        """The next token of each."""
        pairs = zip(self.batches, self.counted, strict=True)
        return torch.cat([batch.next_ids[counted] for batch, counted in pairs])


class Bench:
    """A model and an SAE whose output is changed."""

    def __init__(self, model: LanguageModel, sae: Sae, batch_tokens: int, tick: Tick) -> None:
        self.model, self.sae = model, sae
        self._batch_tokens, self._tick = batch_tokens, tick
        self.last = model.resid_post(model.n_layers - 1)

    def part(self, contexts: Sequence[Context], text: Sequence[int]) -> Part:
        """Contexts in batches of like length; `text` is that of each."""
        made, counts, texts = [], [], []
        lengths = [len(ids) for ids, _ in contexts]
        for chosen in batches(lengths, self._batch_tokens, self.model.regime):
            batch = batch_of([contexts[i] for i in chosen])
            counted = batch.mask & (batch.next_ids != NO_NEXT)
            if self.model.bos_id is not None:
                counted &= batch.ids != self.model.bos_id
            made.append(batch)
            counts.append(counted)
            rows = counted.nonzero()[:, 0].numpy()
            texts.append(np.array([text[i] for i in chosen], dtype=np.int64)[rows])
        text_of = np.concatenate(texts) if texts else np.zeros(0, np.int64)
        return Part(tuple(made), tuple(counts), text_of)

    def streams(self, part: Part, change: Change | None = None) -> Float[Tensor, "n d_model"]:
        """The residual stream at the model's end, at the tokens that count."""
        found: list[Tensor] = []
        for batch, counted in zip(part.batches, part.counted, strict=True):

            def keep(value: Tensor, hook: object, counted: Tensor = counted) -> None:
                found.append(value[counted].float())
                raise EnoughError

            hooks = [*self.edits(batch, change), (self.last, keep)]
            run_until_enough(self.model, batch.ids, batch.mask.long(), hooks)
            self._tick(int(counted.sum()))
        return torch.cat(found)

    def energies(self, part: Part, change: Change | None = None) -> Float[np.ndarray, " n"]:
        """Energies of the tokens that count, nats."""
        return self.read(self.streams(part, change), part)

    def read(self, streams: Float[Tensor, "n d_model"], part: Part) -> Float[np.ndarray, " n"]:
        """What the read-out says of vectors at the tokens that count."""
        found = lens_energies(self.model.readout, streams, part.labels)
        return found.energy.double().numpy()

    def edits(self, batch: Batch, change: Change | None) -> list:
        """Hooks of a change in one batch."""
        if change is None:
            return []
        return Intervention(self.sae, change, self.model.bos_id).hooks(batch.ids, batch.mask)

    def text_sums(self, part: Part, n_texts: int) -> TextSums:
        """What each text says of each feature, from one pass forward and one back."""
        sums = _Sums(n_texts, self.sae)
        first = 0
        for batch, counted in zip(part.batches, part.counted, strict=True):
            n = int(counted.sum())
            text = torch.from_numpy(part.text[first : first + n])
            first += n
            sums.add(text, *self._seen(batch, counted))
            self._tick(n)
        return sums.done(np.bincount(part.text, minlength=n_texts))

    def _seen(
        self, batch: Batch, counted: Bool[Tensor, "batch pos"]
    ) -> tuple[Tensor, list[Tensor]]:
        """Codes and gradients of the tokens that count, the gradients as the SAE's scale at the
        token has it: of all that follows, and of the lens where there is one. An edit reaches
        tokens without a next one too, but nothing follows them."""
        sae, hook = self.sae, self.sae.target_hook
        read_at = lens_hook(self.model, sae) if writes_to_stream(hook) else sae.hook_name
        _, cache = run_hooks(self.model, batch.ids, batch.mask.long(), {sae.hook_name, read_at})
        source = cache[sae.hook_name]
        with torch.no_grad():
            codes = encode_tokens(sae, source, batch.mask)[counted[batch.mask]].float()
        found = model_gradients(
            self.model, batch.ids, batch.mask, batch.next_ids, [hook], own=False
        )
        gradients = [sae.part(found[hook])[counted].flatten(1)]
        if writes_to_stream(hook):
            read = lens_energies(
                self.model.readout, cache[read_at][counted], batch.next_ids[counted], True
            )
            assert read.gradient is not None, "asked for"
            gradients.append(read.gradient)
        scale = sae.write_scale(source[counted].flatten(1))
        if scale is not None:
            gradients = [gradient * scale[:, None] for gradient in gradients]
        return codes, gradients


class _Sums:
    """Running sums by text; a text's contexts may come in several batches."""

    def __init__(self, n_texts: int, sae: Sae) -> None:
        self._shape = (n_texts, sae.d_sae)
        self._directions = sae.write_directions
        self._norms = self._directions.square().sum(1)
        self._parts: list[list[sparse.csr_matrix]] = [[], [], [], [], []]
        self._gradients = [np.zeros((n_texts, self._directions.shape[1])) for _ in range(2)]
        self._has_lens = writes_to_stream(sae.target_hook)

    def add(self, of_token: Tensor, codes: Tensor, gradients: list[Tensor]) -> None:
        texts, place = of_token.unique(return_inverse=True)
        products = [codes * -(gradient @ self._directions.T) for gradient in gradients]
        told = (codes, (codes != 0).float(), codes.square() * self._norms)
        for number, values in enumerate((*told, *products)):
            sums = torch.zeros(len(texts), codes.shape[1], dtype=torch.float64)
            sums.index_add_(0, place, values.double())
            rows, columns = sums.numpy().nonzero()
            values = sums.numpy()[rows, columns]
            self._parts[number].append(
                sparse.csr_matrix((values, (texts.numpy()[rows], columns)), self._shape)
            )
        for total, gradient in zip(self._gradients, gradients, strict=False):
            np.add.at(total, of_token.numpy(), gradient.double().numpy())

    def done(self, n_tokens: Int[np.ndarray, " J"]) -> TextSums:
        empty = sparse.csr_matrix(self._shape)
        z, n_active, power, zg, lens_zg = (sum(parts, empty) for parts in self._parts)
        lens = (lens_zg, self._gradients[1]) if self._has_lens else (None, None)
        return TextSums(n_tokens, zg, z, n_active, power, self._gradients[0], *lens)
