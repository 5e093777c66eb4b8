"""A run's model and SAEs, ready for texts, edits and gradients beyond what the run stored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.db.provenance import RunInfo
from energylens.db.store import open_store
from energylens.errors import UsageError
from energylens.ingest.corpus import Context, Corpus
from energylens.ingest.measure import Instruments, Measured, measure
from energylens.ingest.texts import Text
from energylens.lens.interventions import Intervention
from energylens.lens.models import LanguageModel, load_model
from energylens.lens.pieces import vocabulary_labels
from energylens.lens.routers import find_routers
from energylens.lens.saes import Sae, load_saes


@dataclass(frozen=True)
class Reopened:
    """Made by `reopen`."""

    store: Path
    run: RunInfo
    instruments: Instruments
    """With every lens layer, and the activations at every hook and at the end of the stream."""
    corpus: Corpus

    @property
    def model(self) -> LanguageModel:
        return self.instruments.model

    @property
    def last_hook(self) -> str:
        """Where the lens reads the model's output."""
        return self.model.resid_post(self.model.n_layers - 1)

    def sae(self, sae_id: str) -> Sae:
        """One of the run's SAEs.

        Raises:
            UsageError: the run has no such SAE.
        """
        for sae in self.instruments.saes:
            if sae.sae_id == sae_id:
                return sae
        known = ", ".join(sae.sae_id for sae in self.instruments.saes) or "none"
        raise UsageError(f"the run '{self.run.run_id}' has no SAE '{sae_id}'; its SAEs: {known}")

    def context(self, text: str, number: int = 0, category: str | None = None) -> Context:
        """A text as one context; `number` is its text_id and context_id.

        Raises:
            UsageError: it has no token, or more than a context of the run holds.
        """
        tokenized = self.corpus.tokenize(number, Text(text, category, None))
        n = len(tokenized.ids)
        if not 0 < n <= self.corpus.room:
            raise UsageError(
                f"the text has {n:,} tokens; this needs 1 to {self.corpus.room:,}, what a context "
                f"of the run '{self.run.run_id}' holds beside BOS"
            )
        return next(self.corpus.contexts(tokenized, number))

    def measure(
        self, contexts: Sequence[Context], intervention: Intervention | None = None
    ) -> Measured:
        """Everything there is to see at the contexts' tokens, with or without an intervention."""
        return measure(replace(self.instruments, intervention=intervention), contexts)

    def log_p(self, measured: Measured) -> Float[Tensor, "n d_vocab"]:
        """Log-probabilities of the next token at every token measured."""
        stream = torch.from_numpy(measured.activations[self.last_hook])
        return self.model.readout.logits(stream).log_softmax(-1)

    def label(self, vocab_id: int) -> str:
        """How an entry of the vocabulary reads."""
        return self._labels[vocab_id] if vocab_id < len(self._labels) else f"#{vocab_id}"

    @cached_property
    def _labels(self) -> list[str]:
        return vocabulary_labels(self.model.tokenizer)


def reopen(store: Path, run_id: str) -> Reopened:
    """Load the model and SAEs of a run and make sure they are still the run's.

    Raises:
        StoreError: the store has no such run.
        UsageError: model or SAEs cannot be loaded, or are no longer what the run was made with.
    """
    with open_store(store) as opened:
        run = opened.run(run_id).info
    model = load_model(run.model, run.dtype)
    check_same(run, "model", model.weights_sha256, run.model_sha256)
    saes = _saes(run)
    last = model.resid_post(model.n_layers - 1)
    hooks = tuple(dict.fromkeys([*(sae.hook_name for sae in saes), *run.hooks, last]))
    for hook in (*hooks, *(sae.target_hook for sae in saes)):
        model.check_hook(hook)
    medians = dict(zip(run.hooks, run.hook_median_norms, strict=True))
    instruments = Instruments(
        model=model,
        saes=tuple(saes),
        hooks=hooks,
        median_norms=tuple(medians.get(hook, 0.0) for hook in hooks),
        lens_layers=tuple(range(-1, model.n_layers)),
        routers=tuple(find_routers(model)),
        keep_activations=True,
        keep_gradients=False,
        efas=(),
        with_output=True,
        batch_tokens=max(2048, run.n_ctx),
    )
    bos_id = model.bos_id if run.prepend_bos else None
    return Reopened(store, run, instruments, Corpus("", model.tokenizer, run.n_ctx, bos_id))


def check_same(run: RunInfo, what: str, here: str, then: str) -> None:
    """Make sure a hash is the run's.

    Raises:
        UsageError: it is another.
    """
    if here != then:
        raise UsageError(
            f"the {what} of the run '{run.run_id}' is not what lies at its place now; "
            "put the old one back, or ingest again"
        )


def _saes(run: RunInfo) -> list[Sae]:
    wanted = {info.sae_id: info for info in run.saes}
    found = load_saes(list(dict.fromkeys(info.source for info in run.saes)))
    kept = [sae for sae in found if sae.sae_id in wanted]
    here = {sae.sae_id: sae.weights_sha256 for sae in kept}
    for sae_id, info in wanted.items():
        check_same(run, f"SAE '{sae_id}'", here.get(sae_id, ""), info.weights_sha256)
    return kept


def token_id(reopened: Reopened, text: str) -> int:
    """The vocabulary id of a text that is one token.

    Raises:
        UsageError: it is none, or several.
    """
    ids = reopened.model.tokenizer.encode(text, add_special_tokens=False)
    if len(ids) != 1:
        parts = ", ".join(repr(reopened.label(i)) for i in ids)
        raise UsageError(f"'{text}' is not one token of this model but {len(ids)}: {parts}")
    return ids[0]
