"""From what was asked for to a run that is ready to go: models, SAEs, corpus, gate, provenance."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

import energylens
from energylens.db.change import create_run
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.leftovers import clean_store
from energylens.db.provenance import RunInfo, SaeInfo, read_run
from energylens.db.version import create_store
from energylens.errors import CheckRefusedError, StoreError, UsageError
from energylens.ingest.context_shape import choose_bos, choose_n_ctx
from energylens.ingest.corpus import Corpus, CorpusPlan
from energylens.ingest.gate_sample import GateReport, run_gate
from energylens.ingest.hub_texts import PREFIX, pinned
from energylens.ingest.measure import Instruments
from energylens.ingest.names import check_run_id, named_apart
from energylens.lens.gate import LEAST_COST, GateResult
from energylens.lens.gradients import VARIANTS, Variant
from energylens.lens.models import LanguageModel, load_model, tokenizer_sha256
from energylens.lens.routers import find_routers, routing_gap
from energylens.lens.saes import Sae, load_saes, writes_to_stream

KEEP = ("activations", "gradients")


@dataclass(frozen=True)
class IngestConfig:
    """What a run is asked to be."""

    model: str
    """A directory, a hub name, or builtin:..."""
    texts: str
    """A directory, a file, builtin:categories, or hf:NAME[:split]."""
    saes: tuple[str, ...] = ()
    """Directories, files, release/sae_id, or builtin:..."""
    hooks: tuple[str, ...] = ()
    """Hooks to read beside those of the SAEs."""
    energies: str = "all"
    """all, output, none, or layers such as -1,3,7."""
    keep: tuple[str, ...] = ()
    """activations, gradients."""
    efas: tuple[str, ...] | None = None
    """lens, own, total, calibration; None takes lens where there are energies and SAEs."""
    n_ctx: int | None = None
    """Tokens in a context; None takes the SAEs' or the model's."""
    prepend_bos: bool | None = None
    """None follows the SAEs, or the model."""
    dtype: str = "float32"
    accept_gate: bool = False
    """Go on though the gate refuses an SAE; the run records it."""
    batch_tokens: int = 2048
    """Tokens in a forward pass; changes speed and memory, never rows."""
    run_id: str | None = field(default=None)
    """Name of the run; None makes one from model, texts and everything else that decides rows."""


@dataclass(frozen=True)
class Prepared:
    """A run that is ready: its record is written, shards can be made."""

    run: RunInfo
    layout: RunLayout
    corpus: Corpus
    plan: CorpusPlan
    instruments: Instruments


@dataclass(frozen=True)
class Loaded:
    """Everything in memory, before the gate."""

    config: IngestConfig
    corpus: Corpus
    plan: CorpusPlan
    instruments: Instruments
    notices: tuple[str, ...] = ()
    """What whoever reads the run should know of it."""
    texts_revision: str | None = None
    """Of a dataset of the hub, or a local one of the same form."""
    plan_seconds: float = 0.0
    """What planning took: counting, or reading what was counted."""


PlanOf = Callable[[Corpus], CorpusPlan]
"""Makes a corpus's plan, or reads one that was made before."""


def load(config: IngestConfig, plan_of: PlanOf = Corpus.plan) -> Loaded:
    """Load the model and the SAEs and plan the corpus; nothing is written but what `plan_of` keeps.

    Raises:
        UsageError: something asked for is not there or does not fit together.
    """
    unknown = set(config.keep) - set(KEEP)
    if unknown:
        raise UsageError(f"--keep knows {' and '.join(KEEP)}, not {', '.join(sorted(unknown))}")
    if config.run_id is not None:
        check_run_id(config.run_id)
    model = load_model(config.model, config.dtype)
    return assemble(config, model, named_apart(load_saes(list(config.saes))), plan_of)


def assemble(
    config: IngestConfig, model: LanguageModel, saes: list[Sae], plan_of: PlanOf = Corpus.plan
) -> Loaded:
    """Plan the corpus for a model and SAEs that are loaded.

    Raises:
        UsageError: something asked for does not fit together.
    """
    hooks = tuple(dict.fromkeys([*(sae.hook_name for sae in saes), *config.hooks]))
    for hook in (*hooks, *(sae.target_hook for sae in saes)):
        model.check_hook(hook)
    if config.keep and not hooks:
        raise UsageError("--keep needs a hook: give --hook or --sae")
    inner = [hook for hook in hooks if not writes_to_stream(hook)]
    if "gradients" in config.keep and inner:
        raise UsageError(
            f"there is no lens gradient at '{inner[0]}': it is neither the residual stream nor "
            "what a block's attention or MLP adds to it; leave out the hook or --keep gradients"
        )
    prepend_bos, notices = choose_bos(config.prepend_bos, model, saes)
    n_ctx = choose_n_ctx(config.n_ctx, model, saes)
    bos_id = model.bos_id if prepend_bos else None
    config, revision = _pinned(config)
    corpus = Corpus(config.texts, model.tokenizer, n_ctx, bos_id, model.n_ids)
    instruments = Instruments(
        model=model,
        saes=tuple(saes),
        hooks=hooks,
        median_norms=(1.0,) * len(hooks),
        lens_layers=_lens_layers(config.energies, model),
        routers=tuple(find_routers(model)),
        keep_activations="activations" in config.keep,
        keep_gradients="gradients" in config.keep,
        efas=_efas(config),
        with_output=config.energies != "none",
        batch_tokens=config.batch_tokens,
    )
    notices = (*notices, *_notices(model))
    began = time.perf_counter()
    plan = plan_of(corpus)
    took = time.perf_counter() - began
    return Loaded(config, corpus, plan, instruments, notices, revision, took)


def _pinned(config: IngestConfig) -> tuple[IngestConfig, str | None]:
    """With texts that are the same at every reading, and their revision."""
    if not config.texts.startswith(PREFIX):
        return config, None
    texts, revision = pinned(config.texts)
    return replace(config, texts=texts), revision


def _notices(model: LanguageModel) -> Iterator[str]:
    gap = routing_gap(model)
    if gap is not None:
        yield f"no routing is stored of this mixture of experts: {gap}"


def prepare(store: Path, loaded: Loaded, say: Callable[[str], None] = lambda _: None) -> Prepared:
    """Write the run's record, running the gate first, or find the one an earlier call wrote;
    `say` is told what takes long.

    Raises:
        CheckRefusedError: the gate refuses an SAE and the config does not accept that.
        StoreError: the store cannot be written, or holds another run of this name.
    """
    create_store(store)
    clean_store(store)
    identity = _identity(loaded)
    run_id = loaded.config.run_id or _run_id(loaded.config, identity)
    layout = StoreLayout(store).run(run_id)
    if layout.run_json.exists():
        run = _of_identity(read_run(layout.run_json), identity, store)
        _refuse([sae.gate for sae in run.saes], loaded.config.accept_gate)
    else:
        say("measuring SAEs and norms on a sample of the texts, once")
        report = run_gate(loaded.corpus, loaded.plan, loaded.instruments)
        _refuse(
            [_verdict(sae, report.results[sae.sae_id]) for sae in loaded.instruments.saes],
            loaded.config.accept_gate,
        )
        run = _run_info(loaded, run_id, identity, report)
        run = _of_identity(create_run(layout, run), identity, store)
    instruments = replace(loaded.instruments, median_norms=tuple(run.hook_median_norms))
    return Prepared(run, layout, loaded.corpus, loaded.plan, instruments)


def _of_identity(run: RunInfo, identity: str, store: Path) -> RunInfo:
    if run.versions.get("identity") != identity:
        raise StoreError(
            f"the run '{run.run_id}' in '{store}' was made from other models, SAEs, texts or "
            "settings; give another --run-id, or leave it out"
        )
    return run


def _verdict(sae: Sae, result: GateResult) -> str:
    if result.refusal is not None:
        return f"overridden: {sae.sae_id}: {result.refusal}"
    if result.ce_loss_score is None:
        return f"passed; no CE recovered: zeros cost less than {LEAST_COST} nats a token here"
    return "passed"


def _refuse(verdicts: Sequence[str], accepted: bool) -> None:
    refused = [v.removeprefix("overridden: ") for v in verdicts if v.startswith("overridden")]
    if refused and not accepted:
        raise CheckRefusedError(
            "the gate refuses " + "; ".join(refused) + ". Check that the SAE was trained on this "
            "model and hook; to ingest all the same and have it recorded: --accept-gate"
        )


def _lens_layers(energies: str, model: LanguageModel) -> tuple[int, ...]:
    if energies in ("none", "output"):
        return ()
    if energies == "all":
        return tuple(range(-1, model.n_layers))
    try:
        layers = sorted({int(part) for part in energies.split(",")})
    except ValueError:
        raise UsageError(
            f"--energies takes all, output, none, or layers such as -1,3,7; not '{energies}'"
        ) from None
    wrong = [layer for layer in layers if not -1 <= layer < model.n_layers]
    if wrong:
        raise UsageError(
            f"--energies names layer {wrong[0]}, but the model has layers -1 (the embedding) to "
            f"{model.n_layers - 1}"
        )
    return tuple(layers)


def _efas(config: IngestConfig) -> tuple[Variant, ...]:
    asked = config.efas
    if asked is None:
        return ("lens",) if config.energies != "none" else ()
    unknown = [variant for variant in asked if variant not in VARIANTS]
    if unknown:
        raise UsageError(f"--efas knows {', '.join(VARIANTS)} and none, not '{unknown[0]}'")
    if asked and config.energies == "none":
        raise UsageError("--efas needs energies: leave out --energies none")
    return tuple(variant for variant in VARIANTS if variant in asked)


def _identity(loaded: Loaded) -> str:
    """SHA-256 over everything that decides rows; the batch size and paths do not."""
    instruments, model = loaded.instruments, loaded.instruments.model
    parts = {
        "model": model.weights_sha256,
        "tokenizer": tokenizer_sha256(model.tokenizer),
        "texts": loaded.plan.sha256,
        "saes": [
            [s.sae_id, s.weights_sha256, s.hook_name, s.centring, *_head(s)]
            for s in instruments.saes
        ],
        "hooks": instruments.hooks,
        "n_ctx": loaded.corpus.n_ctx,
        "bos": loaded.corpus.bos_id,
        "lens": instruments.lens_layers,
        "output": instruments.with_output,
        "keep": sorted(set(loaded.config.keep)),
        "efas": instruments.efas,
        "dtype": model.dtype,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _run_id(config: IngestConfig, identity: str) -> str:
    def last(spec: str) -> str:
        name = Path(spec.removeprefix("builtin:").removeprefix(PREFIX).partition("@")[0]).stem
        return name.replace(":", "-")

    return f"{last(config.model)}-{last(config.texts)}-{identity[:8]}"


def _head(sae: Sae) -> list[int]:
    return [] if sae.head is None else [sae.head]


def _run_info(loaded: Loaded, run_id: str, identity: str, report: GateReport) -> RunInfo:
    config, plan, instruments = loaded.config, loaded.plan, loaded.instruments
    model = instruments.model
    packages = ("torch", "transformers", "transformer-lens", "sae-lens", "pyarrow", "duckdb")
    return RunInfo(
        run_id=run_id,
        kind="corpus",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=config.model,
        model_class=model.model_class,
        model_revision=model.revision,
        model_sha256=model.weights_sha256,
        tokenizer_sha256=tokenizer_sha256(model.tokenizer),
        texts=config.texts,
        texts_sha256=plan.sha256,
        texts_revision=loaded.texts_revision,
        n_texts=plan.n_texts,
        n_contexts=plan.n_contexts,
        n_tokens=plan.n_tokens,
        n_ctx=loaded.corpus.n_ctx,
        prepend_bos=loaded.corpus.bos_id is not None,
        n_layers=model.n_layers,
        d_model=model.d_model,
        d_vocab=model.readout.d_vocab,
        dtype=model.dtype,
        loader="transformers + TransformerBridge, weights not processed",
        quantisation=model.quantisation,
        hooks=list(instruments.hooks),
        hook_median_norms=list(report.median_norms),
        lens_layers=list(instruments.lens_layers),
        efas=list(instruments.efas),
        keep=sorted(set(config.keep)),
        n_shards=plan.n_shards,
        notices=list(loaded.notices),
        versions={
            "identity": identity,
            "energylens": energylens.__version__,
            **{name: version(name) for name in packages},
            "cpu": torch.backends.cpu.get_cpu_capability(),
        },
        saes=[sae_info(sae, report.results[sae.sae_id]) for sae in instruments.saes],
    )


def sae_info(sae: Sae, gate: GateResult) -> SaeInfo:
    """The record of an SAE and what the gate found."""
    return SaeInfo(
        sae_id=sae.sae_id,
        source=sae.source,
        release=sae.release,
        hook_name=sae.hook_name,
        hook_head_index=sae.head,
        layer=sae.layer,
        stream=sae.stream,
        architecture=sae.architecture,
        d_in=sae.d_in,
        d_sae=sae.d_sae,
        weights_sha256=sae.weights_sha256,
        normalize_activations=str(sae.module.cfg.normalize_activations),
        centring=sae.centring,
        folded=False,
        neuronpedia_id=sae.neuronpedia_id,
        declared_l0=sae.declared_l0,
        l0=gate.l0,
        fvu=gate.fvu,
        explained_variance=gate.explained_variance,
        ce_loss_score=gate.ce_loss_score,
        n_dead=gate.n_dead,
        n_dense=gate.n_dense,
        gate_tokens=gate.n_tokens,
        gate=_verdict(sae, gate),
    )
