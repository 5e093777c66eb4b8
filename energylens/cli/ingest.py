"""`energylens ingest` and `energylens index`."""

import json
import os
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from energylens.cli.arguments import JsonOption, StoreArgument
from energylens.cli.extras import need_models
from energylens.cli.names import chosen_run
from energylens.cli.presets import wished
from energylens.cli.sources import need_sources
from energylens.errors import UsageError

if TYPE_CHECKING:
    from energylens.ingest.estimate import Estimate
    from energylens.ingest.parts import Part
    from energylens.ingest.plan import IngestConfig
    from energylens.ingest.presets import Preset


def ingest(
    store: StoreArgument,
    preset: Annotated[
        str | None,
        typer.Option(help="One that `energylens presets` lists; other options change it."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A directory, a GGUF file, a hub name, or builtin:...")
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            help="A directory of <category>/*.txt, a JSONL, CSV or Parquet file with a column "
            "'text' (or 'input_ids', the model's own tokens), builtin:categories, or "
            "hf:NAME[:split], a dataset of the hub."
        ),
    ] = None,
    sae: Annotated[
        list[str] | None,
        typer.Option(
            help="release/sae_id of the sae-lens registry, a directory, a file, or builtin:NAME, "
            "or one of them as builtin:NAME/sae_id; may be repeated."
        ),
    ] = None,
    hook: Annotated[
        list[str] | None,
        typer.Option(help="A hook to read beside those of the SAEs; may be repeated."),
    ] = None,
    energies: Annotated[
        str | None, typer.Option(help="all (as by default), output, none, or layers as -1,3,7.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option(help="Keep vectors too: activations, gradients, or both by a comma."),
    ] = None,
    n_ctx: Annotated[
        int | None, typer.Option(help="Tokens in a context; as the SAEs or the model by default.")
    ] = None,
    efas: Annotated[
        str | None,
        typer.Option(
            help="Gradients to compare features with: lens, own, total, calibration, or none; "
            "lens by default."
        ),
    ] = None,
    bos: Annotated[
        bool | None,
        typer.Option("--bos/--no-bos", help="Begin contexts with BOS; as the SAEs by default."),
    ] = None,
    coder: Annotated[
        str | None,
        typer.Option(
            help="omp:K: codes by orthogonal matching pursuit over each SAE's dictionary too, at "
            "most K a token; alone: SAE@omp:K as --sae."
        ),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32 (by default), bfloat16 or float16.")
    ] = None,
    batch_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tokens in a forward pass, 2048 by default: speed and memory, never rows."
        ),
    ] = None,
    shard: Annotated[
        str,
        typer.Option(
            metavar="I/N|auto|any",
            help="Make only part I of N of the shards; auto: the part that Slurm, SkyPilot or "
            "Kubernetes names; any: whichever no other process on this store makes.",
        ),
    ] = "1/1",
    run_id: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    accept_gate: Annotated[
        bool, typer.Option("--accept-gate", help="Ingest though the gate refuses an SAE.")
    ] = False,
    no_index: Annotated[
        bool, typer.Option("--no-index", help="Leave the index to `energylens index`.")
    ] = False,
    estimate: Annotated[
        bool,
        typer.Option(
            "--estimate", help="Forecast time, disk and memory, index included; store nothing."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a model with SAEs over texts and store what is seen at every token.

    The same command again goes on where the last one stopped.
    """
    need_models()
    from energylens.ingest.parts import Part

    part = Part.parse(shard, os.environ)
    options = {
        "model": model, "texts": texts, "saes": _some(sae), "hooks": _some(hook),
        "energies": energies, "keep": keep, "n_ctx": n_ctx, "efas": efas, "bos": bos,
        "coder": coder, "dtype": dtype, "batch_tokens": batch_tokens,
    }  # fmt: skip
    config = replace(_config(wished(preset, options)), accept_gate=accept_gate, run_id=run_id)
    if estimate:
        _estimate(store, config, as_json)
        return
    run = run_ingest(store, config, part, as_json)
    if part is not None and part.count > 1:
        typer.echo(
            f"part {part} is done; once all are: energylens merge, or energylens index", err=True
        )
    elif not no_index and part is None:
        _index_unless_others(store, run, as_json)
    elif not no_index:
        index(store, run_id=run, as_json=as_json)


def _config(wish: "Preset") -> "IngestConfig":
    """What a run is asked to be; the hub is asked for what only it has, before torch is loaded."""
    assert wish.model is not None and wish.texts is not None, "they were asked for"
    need_sources(wish.model, wish.saes or (), wish.texts)
    from energylens.ingest.plan import IngestConfig

    return IngestConfig(
        model=wish.model,
        texts=wish.texts,
        saes=_with_coder(wish.saes or (), wish.coder),
        hooks=wish.hooks or (),
        energies=wish.energies or "",
        keep=tuple(part.strip() for part in (wish.keep or "").split(",") if part.strip()),
        efas=_variants(wish.efas),
        n_ctx=wish.n_ctx,
        prepend_bos=wish.bos,
        dtype=wish.dtype or "",
        batch_tokens=wish.batch_tokens or IngestConfig.batch_tokens,
    )


def run_ingest(
    store: StoreArgument, config: "IngestConfig", part: "Part | None", as_json: bool
) -> str:
    """Make the shards of a part of a run, or with None whichever are free; the run's id."""
    from energylens.ingest.progress import Progress
    from energylens.ingest.whole import make_run

    progress = Progress(as_json)
    try:
        return make_run(store, config, part, progress)
    finally:
        progress.close()


def _index_unless_others(store: StoreArgument, run_id: str, as_json: bool) -> None:
    from energylens.ingest.progress import Progress
    from energylens.ingest.whole import index_once

    progress = Progress(as_json)
    try:
        index_once(store, run_id, progress)
    finally:
        progress.close()


def index(
    store: StoreArgument,
    run_id: Annotated[
        str | None, typer.Option(help="Rebuild this run's index, fresh or not.")
    ] = None,
    flips: Annotated[
        int, typer.Option(min=0, help="Random sign flips that confirm EFAS; 0 makes none.")
    ] = 10_000,
    as_json: JsonOption = False,
) -> None:
    """Rebuild the derived tables of every run whose index is missing or stale."""
    from energylens.ingest.index.build import build_indexes
    from energylens.ingest.progress import Progress

    run_id = None if run_id is None else chosen_run(store, run_id)
    progress = Progress(as_json)
    try:
        built = build_indexes(store, progress, run_id, flips)
        progress.say(f"index made for {', '.join(built)}" if built else "every index is up to date")
    finally:
        progress.close()


def _estimate(store: StoreArgument, config: "IngestConfig", as_json: bool) -> None:
    from energylens.ingest.estimate import estimate
    from energylens.ingest.plan import load
    from energylens.ingest.plan_file import planned

    found = estimate(load(config, partial(planned, store=store, keep=False)))
    typer.echo(json.dumps(asdict(found)) if as_json else _forecast(found))


def _forecast(found: "Estimate") -> str:
    from energylens.ingest.progress import duration
    from energylens.queries.display import size

    return (
        f"{found.n_texts:,} texts, {found.n_tokens:,} tokens in {found.n_contexts:,} contexts and "
        f"{found.n_shards} shards\n"
        f"time    {duration(found.seconds)}: counting {duration(found.plan_seconds)}, gate "
        f"{duration(found.gate_seconds)}, shards {duration(found.shard_seconds)} at "
        f"{found.tokens_per_second:,.0f} tokens/s, index {duration(found.index_seconds)}\n"
        f"disk    {size(found.bytes_total)}, index included\n"
        f"memory  {size(found.peak_memory)}\n"
        f"from a trial on {found.trial_tokens:,} tokens; nothing was stored"
    )


def _some(words: list[str] | None) -> tuple[str, ...] | None:
    """What was given of an option that may be repeated; None where it was not."""
    return tuple(words) if words else None


def _with_coder(saes: tuple[str, ...], coder: str | None) -> tuple[str, ...]:
    """The SAEs, and each of them again with the coder."""
    if coder is None:
        return saes
    from energylens.lens.omp import CODER

    if not saes:
        raise UsageError("--coder needs a dictionary: give --sae")
    if not CODER.fullmatch(coder):
        raise UsageError(f"--coder takes omp:K with K from 1 on, as omp:32; not '{coder}'")
    return (*saes, *(f"{sae}@{coder}" for sae in saes))


def _variants(efas: str | None) -> tuple[str, ...] | None:
    if efas is None:
        return None
    return tuple(part.strip() for part in efas.split(",") if part.strip() not in ("", "none"))
