"""`energylens train sae`."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from energylens.cli.arguments import JsonOption
from energylens.cli.extras import need_models
from energylens.cli.sources import need_sources
from energylens.errors import UsageError

if TYPE_CHECKING:
    from energylens.cli.sae_training_log import SaeTrainingLog
    from energylens.training.saes.config import SaeTrainingConfig
    from energylens.training.saes.finish import Saved
    from energylens.training.saes.source import Source

_N_CTX = 256
"""Context length where none is given."""


def sae(
    out: Annotated[Path, typer.Argument(help="Directory; each SAE gets a folder in it.")],
    model: Annotated[str | None, typer.Option(help="A directory, a hub name, or builtin:...")] = (
        None
    ),
    texts: Annotated[str | None, typer.Option(help="Texts, as for `energylens ingest`.")] = None,
    store: Annotated[
        Path | None, typer.Option(help="Train on activations that a store keeps, without a model.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="The store's run; needed among several.")] = None,
    hook: Annotated[list[str] | None, typer.Option(help="Hook to train on; repeatable.")] = None,
    arch: Annotated[
        str, typer.Option(help="What sae-lens trains: batchtopk, topk, standard, jumprelu, ...")
    ] = "batchtopk",
    d_sae: Annotated[int, typer.Option(help="Features of each SAE.")] = 1024,
    k: Annotated[float | None, typer.Option(help="Features active a token; 32 if unset.")] = None,
    l1: Annotated[float | None, typer.Option(help="Weight of the L1 penalty.")] = None,
    lr: Annotated[float, typer.Option(help="Learning rate at its top.")] = 1e-3,
    batch: Annotated[int, typer.Option(help="Activations in a step.")] = 2048,
    warmup: Annotated[
        int | None, typer.Option(help="Steps in which the learning rate rises.")
    ] = None,
    n_tokens: Annotated[int, typer.Option(help="Budget of tokens to train on.")] = 2_000_000,
    n_ctx: Annotated[int | None, typer.Option(help="Context length; 256 if unset.")] = None,
    seed: Annotated[int, typer.Option(help="Decides weights and the order of texts.")] = 0,
    dtype: Annotated[
        str, typer.Option(help="float32, bfloat16, or auto: what the processor is faster in.")
    ] = "auto",
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE of a field of sae-lens' configuration; repeatable."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(help="k, l1, d_sae, lr or a field =V1,V2,...: an SAE for each; repeatable."),
    ] = None,
    resample: Annotated[
        int, typer.Option(help="Resample dead features of 'standard' every so many steps.")
    ] = 0,
    held_out: Annotated[
        str | None,
        typer.Option("--heldout", help="Texts not trained on, for the gate at the end."),
    ] = None,
    float16: Annotated[bool, typer.Option("--float16", help="Store in half the size.")] = False,
    every: Annotated[float, typer.Option(help="Seconds between two lines of progress.")] = 10.0,
    as_json: JsonOption = False,
) -> None:
    """Train SAEs, all hooks in one pass over the texts; the same command goes on after a stop."""
    first = "loading what trains SAEs"
    typer.echo(json.dumps({"message": first}) if as_json else first, err=True)
    need_models()
    from energylens.ingest.texts import iter_texts
    from energylens.training.saes.config import SaeTrainingConfig
    from energylens.training.saes.precision import number_format
    from energylens.training.saes.trial import try_settings

    data = _Data(model, texts, store, run, n_ctx)
    data.check()
    form = number_format(dtype)
    config = SaeTrainingConfig(
        hook_names=tuple(hook or ()),
        architecture=arch,
        d_sae=d_sae,
        n_tokens=n_tokens,
        k=k,
        l1=l1,
        learning_rate=lr,
        warm_up=warmup,
        batch_size=batch,
        seed=seed,
        settings=_assigned("--set", assign or ()),
        sweep={
            name: tuple(_number("--sweep", name, value) for value in values.split(","))
            for name, values in _assigned("--sweep", sweep or ()).items()
        },
        resample_every=resample,
        autocast=form == "bfloat16",
        block_tokens=_block_tokens(batch, n_tokens),
    )
    if not every >= 0:  # NaN too
        raise UsageError(f"--every {every:g} is no number of seconds; give 0 or more")
    if held_out is not None:
        next(iter_texts(held_out), None)  # what cannot be read is said before, not after
    try_settings(config)
    need_sources(model, texts=texts)
    _train(out, data, config, form, held_out, float16, every, as_json)


@dataclass(frozen=True)
class _Data:
    """Where activations come from, as it was asked."""

    model: str | None
    texts: str | None
    store: Path | None
    run: str | None
    n_ctx: int | None

    def check(self) -> None:
        """Make sure that one source is meant."""
        if self.store is None:
            if self.model is None or self.texts is None:
                raise UsageError(
                    "activations come from a model and texts, or from a store that keeps some: "
                    "give --model and --texts, or --store"
                )
            if self.run is not None:
                raise UsageError("--run names a run of a store: give --store too")
        elif self.texts is not None or self.n_ctx is not None:
            raise UsageError(
                "a store's activations have their texts and contexts already: leave out --texts "
                "and --n-ctx, or --store"
            )


def _train(
    out: Path,
    data: _Data,
    config: "SaeTrainingConfig",
    form: str,
    held_out: str | None,
    float16: bool,
    every: float,
    as_json: bool,
) -> None:
    from energylens.cli.sae_training_log import SaeTrainingLog
    from energylens.db.claim import claim
    from energylens.training.saes.directory import Directory
    from energylens.training.saes.finish import save_saes
    from energylens.training.saes.loop import settings_of_training, train_saes

    place = Directory(out)
    place.check_empty_or_ours()
    settings: dict[str, Any] = {}
    log = SaeTrainingLog(place.metrics, lambda: place.begin(settings), as_json, every)
    try:
        with (
            _left_if_used(out),
            claim(out / ".lock", f"'{out}'", "wait for it, or give another directory"),
            _source(data, config, form, log) as source,
        ):
            settings |= settings_of_training(source, config)
            if place.is_finished(settings):
                place.clear()
                log.say(f"the training in '{out}' is finished already; nothing is done")
                return
            trained = train_saes(source, config, place.checkpoint, log)
            saved = save_saes(trained, out, source.facts, float16)
            gate = None
            if held_out is not None:
                gate = _gate(held_out, str(source.facts["model_name"]), data.model, saved, log)
            place.finish(settings)
    finally:
        log.close()
    _tell(saved, gate, as_json)
    log.say(f"the SAEs are in {out}")


@contextlib.contextmanager
def _left_if_used(out: Path) -> Iterator[None]:
    """A directory that is still empty at the end goes away."""
    existed = out.exists()
    try:
        yield
    finally:
        if not existed:
            with contextlib.suppress(OSError):
                out.rmdir()


@contextlib.contextmanager
def _source(
    data: _Data, config: "SaeTrainingConfig", form: str, log: "SaeTrainingLog"
) -> "Iterator[Source]":
    if data.store is None:
        assert data.model is not None and data.texts is not None, "they have been checked"
        n_ctx = _N_CTX if data.n_ctx is None else data.n_ctx
        yield _from_model(data.model, data.texts, n_ctx, config, form, log)
        return
    from energylens.cli.names import chosen_run
    from energylens.db.kept import RANGE_TOKENS, KeptActivations
    from energylens.db.store import open_store
    from energylens.training.saes.source import KeptSource

    run_id = chosen_run(data.store, data.run)
    with open_store(data.store) as opened:
        run = opened.run(run_id).info
        kept = KeptActivations(opened, run)
        for hook in config.hook_names:
            kept.check(hook)
        facts = {
            "model_name": run.model,
            "model_sha256": run.model_sha256,
            "model_dtype": run.dtype,
            "context_size": run.n_ctx,
            "prepend_bos": run.prepend_bos,
            "texts": run.texts,
            "texts_sha256": run.texts_sha256,
            "run": run_id,
        }
        yield KeptSource(
            kept.read, kept.n_ranges, RANGE_TOKENS, config.hook_names, config.seed, facts
        )


def _from_model(
    model: str,
    texts: str,
    n_ctx: int,
    config: "SaeTrainingConfig",
    form: str,
    log: "SaeTrainingLog",
) -> "Source":
    import random

    from energylens.ingest.texts import iter_texts
    from energylens.lens.models import load_model
    from energylens.training.corpus import pack
    from energylens.training.saes.source import ModelSource

    log.say(f"loading the model {model} in {form}")
    loaded = load_model(model, form)
    for hook in config.hook_names:
        loaded.check_hook(hook)
    read = [text.text for text in iter_texts(texts)]
    random.Random(config.seed).shuffle(read)
    ids = pack(loaded.tokenizer, _told(read, log.phase))
    return ModelSource(loaded, ids, config.hook_names, n_ctx, config.seed, texts)


def _told(texts: list[str], tell: Callable[[str, int, int, str], None]) -> Iterator[str]:
    for index, text in enumerate(texts):
        tell("tokenizing", index, len(texts), "texts")
        yield text
    tell("tokenizing", len(texts), len(texts), "texts")


def _gate(
    texts: str, trained_on: str, model: str | None, saved: "list[Saved]", log: "SaeTrainingLog"
) -> dict[str, dict[str, Any]]:
    """The ingest's own gate on texts that were not trained on; its figures go into cfg.json."""
    from energylens.ingest.gate_sample import run_gate
    from energylens.ingest.plan import IngestConfig, load
    from energylens.training.saes.finish import add_metadata

    log.say(f"the gate reads {texts}")
    loaded = load(
        IngestConfig(
            model=model or trained_on, texts=texts, saes=tuple(str(one.folder) for one in saved)
        )
    )
    results = run_gate(loaded.corpus, loaded.plan, loaded.instruments).results
    found: dict[str, dict[str, Any]] = {}
    for one in saved:
        result = results[one.name]
        found[one.name] = {
            "heldout_l0": result.l0,
            "heldout_fvu": result.fvu,
            "ce_recovered": result.ce_loss_score,
            "gate": result.refusal or "passed",
        }
        add_metadata(one.folder, heldout={"texts": texts, **found[one.name]})
    return found


def _tell(saved: "list[Saved]", gate: dict[str, dict[str, Any]] | None, as_json: bool) -> None:
    """One row an SAE, to stdout."""
    import polars as pl

    from energylens.cli.output import print_frame
    from energylens.queries.writing import Format

    rows = []
    for one in saved:
        beside = [o for o in saved if o.hook_name == one.hook_name]
        rows.append(
            {
                "sae": one.name,
                "l0": round(one.measured.l0, 2),
                "fvu": round(one.measured.fvu, 4),
                "n_dead": one.measured.n_dead,
                "is_on_frontier": not any(_is_better(other, one) for other in beside),
                **{
                    name: round(value, 4) if isinstance(value, float) else value
                    for name, value in (gate or {}).get(one.name, {}).items()
                },
            }
        )
    print_frame(pl.DataFrame(rows), Format.json if as_json else Format.table)


def _is_better(one: "Saved", other: "Saved") -> bool:
    """Whether `one` has neither more features active nor more variance unexplained than `other`,
    and less of one of them."""
    mine, theirs = (one.measured.l0, one.measured.fvu), (other.measured.l0, other.measured.fvu)
    return mine != theirs and mine[0] <= theirs[0] and mine[1] <= theirs[1]


def _block_tokens(batch: int, n_tokens: int) -> int:
    from energylens.training.saes.config import BLOCK_TOKENS

    return max(batch, min(BLOCK_TOKENS, n_tokens))


def _assigned(option: str, texts: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise UsageError(f"{option} takes NAME=VALUE, not '{text}'")
        if name in found:
            raise UsageError(f"{option} gives '{name}' twice; give it once")
        found[name] = value
    return found


def _number(option: str, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option} {name}={text}: '{text}' is no number") from None
