"""A run's model and SAEs, ready for texts, edits and gradients beyond what the run stored.

Whatever loads again what a run was made with does it here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from energylens.db.leftovers import clean_store
from energylens.db.provenance import RunInfo, SaeInfo
from energylens.db.store import open_store
from energylens.errors import UsageError
from energylens.ingest.corpus import Context, Corpus
from energylens.ingest.measure import Instruments, Measured, measure
from energylens.ingest.names import is_same
from energylens.ingest.on_request.labels import Labels
from energylens.ingest.plan import IngestConfig, Loaded, assemble
from energylens.ingest.plan_file import planned
from energylens.ingest.texts import Text
from energylens.lens.interventions import Intervention
from energylens.lens.models import LanguageModel, load_model, tokenizer_sha256
from energylens.lens.routers import find_routers
from energylens.lens.saes import Sae, load_saes
from energylens.queries.names import find_sae
from energylens.stats.logistic import Probe


@dataclass(frozen=True)
class Reopened:
    """Made by `reopen`."""

    store: Path
    run: RunInfo
    instruments: Instruments
    """With every lens layer, and the activations at every hook and at the end of the stream."""
    corpus: Corpus
    probes: dict[tuple[str, str], Probe] = field(default_factory=dict, repr=False)
    """Learned so far, by SAE and category; see `conditions`."""

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
            UnknownNameError: the run has no such SAE.
        """
        name = find_sae(self.run, sae_id).sae_id
        return next(sae for sae in self.instruments.saes if sae.sae_id == name)

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
        return self._labels[vocab_id]

    @cached_property
    def _labels(self) -> Labels:
        return Labels(self.model)


def reopen(store: Path, run_id: str, then_saes: Callable[[], None] = lambda: None) -> Reopened:
    """Load the model and SAEs of a run and make sure they are still the run's; `then_saes` is
    called between the two.

    Raises:
        StoreError: the store has no such run.
        UsageError: model or SAEs cannot be loaded, or are no longer what the run was made with.
    """
    with open_store(store) as opened:
        run = opened.run(run_id).info
    model = reopen_model(run)
    then_saes()
    saes = reopen_saes(run, run.saes)
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
    if run.prepend_bos and model.bos_id is None:
        model.begin_with_eos()
    bos_id = model.bos_id if run.prepend_bos else None
    corpus = Corpus("", model.tokenizer, run.n_ctx, bos_id, model.n_ids)
    return Reopened(store, run, instruments, corpus)


def reopen_model(run: RunInfo) -> LanguageModel:
    """The model of a run.

    Raises:
        UsageError: it is not to be had here, or is not the one the run was made with.
    """
    model = load_model(run.model, run.dtype)
    _check_same(run, "model", run.model, model.weights_sha256 == run.model_sha256)
    same_words = tokenizer_sha256(model.tokenizer) == run.tokenizer_sha256
    _check_same(run, "tokenizer", run.model, same_words)
    return model


def reopen_saes(run: RunInfo, wanted: Sequence[SaeInfo]) -> list[Sae]:
    """Some SAEs of a run, in the order and under the names of their records, whatever the
    folders they lie in are called.

    Raises:
        UsageError: one is not to be had here, or is not the one the run was made with.
    """
    found = {source: load_saes([source]) for source in dict.fromkeys(i.source for i in wanted)}
    return [_own(run, info, found[info.source]) for info in wanted]


def _own(run: RunInfo, info: SaeInfo, found: Sequence[Sae]) -> Sae:
    """The SAE of a record among those that lie at its place."""
    by_name = sorted(found, key=lambda sae: sae.sae_id != info.sae_id)
    own = next((sae for sae in by_name if is_same(sae, info)), None)
    _check_same(run, f"SAE '{info.sae_id}'", info.source, own is not None)
    assert own is not None, "checked"
    return replace(own, sae_id=info.sae_id)


def reopen_texts(
    store: Path,
    run: RunInfo,
    saes: Sequence[SaeInfo] = (),
    hooks: tuple[str, ...] = (),
    efas: tuple[str, ...] = (),
    keep: tuple[str, ...] = (),
) -> Loaded:
    """The model, some SAEs and all texts of a run in a store, ready to be measured once more.

    Raises:
        UsageError: one of them is not to be had here, or is not what the run was made with.
    """
    asked = IngestConfig(
        model=run.model,
        texts=run.texts,
        hooks=hooks,
        energies="output",
        efas=efas,
        keep=keep,
        n_ctx=run.n_ctx,
        prepend_bos=run.prepend_bos,
        dtype=run.dtype,
    )
    clean_store(store)  # the plan's lock, too, may have been left by a kill
    model, opened = reopen_model(run), reopen_saes(run, saes)
    loaded = assemble(asked, model, opened, partial(planned, store=store))
    _check_same(run, "corpus", run.texts, loaded.plan.sha256 == run.texts_sha256)
    return loaded


def _check_same(run: RunInfo, what: str, where: str, is_same: bool) -> None:
    if not is_same:
        raise UsageError(
            f"the {what} of the run '{run.run_id}' is not what lies at '{where}' now; put the old "
            "one back, or ingest again"
        )


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
