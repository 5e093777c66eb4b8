"""`energylens ingest` and `energylens index`."""

import json
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from energylens.cli.arguments import JsonOption, StoreArgument
from energylens.cli.extras import need_models
from energylens.cli.names import chosen_run
from energylens.cli.sources import need_sources
from energylens.errors import UsageError

if TYPE_CHECKING:
    from energylens.ingest.estimate import Estimate
    from energylens.ingest.plan import IngestConfig


def ingest(
    store: StoreArgument,
    model: Annotated[str, typer.Option(help="A directory, a hub name, or builtin:...")],
    texts: Annotated[
        str,
        typer.Option(
            help="A directory of <category>/*.txt, a JSONL, CSV or Parquet file with a column "
            "'text' (or 'input_ids', the model's own tokens), builtin:categories, or "
            "hf:NAME[:split], a dataset of the hub."
        ),
    ],
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
        str, typer.Option(help="all, output, none, or layers such as -1,3,7.")
    ] = "all",
    keep: Annotated[
        str, typer.Option(help="Keep vectors too: activations, gradients, or both by a comma.")
    ] = "",
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
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    batch_tokens: Annotated[
        int, typer.Option(min=1, help="Tokens in a forward pass: speed and memory, never rows.")
    ] = 2048,
    shard: Annotated[
        str, typer.Option(metavar="I/N", help="Make only part I of N of the shards.")
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
    need_sources(model, sae or (), texts)
    from energylens.ingest.plan import IngestConfig

    config = IngestConfig(
        model=model,
        texts=texts,
        saes=_with_coder(sae or [], coder),
        hooks=tuple(hook or ()),
        energies=energies,
        keep=tuple(part.strip() for part in keep.split(",") if part.strip()),
        efas=_variants(efas),
        n_ctx=n_ctx,
        prepend_bos=bos,
        dtype=dtype,
        accept_gate=accept_gate,
        batch_tokens=batch_tokens,
        run_id=run_id,
    )
    if estimate:
        _estimate(store, config, as_json)
        return
    run = run_ingest(store, config, shard, as_json)
    if shard != "1/1":
        typer.echo(
            f"part {shard} is done; once all are: energylens merge, or energylens index", err=True
        )
    elif not no_index:
        index(store, run_id=run, as_json=as_json)


def run_ingest(store: StoreArgument, config: "IngestConfig", shard: str, as_json: bool) -> str:
    """Make the shards of a run; its id."""
    from energylens.ingest.progress import Progress
    from energylens.ingest.run import Part
    from energylens.ingest.whole import make_run

    part = Part.parse(shard)
    progress = Progress(as_json)
    try:
        return make_run(store, config, part, progress)
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


def _with_coder(saes: list[str], coder: str | None) -> tuple[str, ...]:
    """The SAEs, and each of them again with the coder."""
    if coder is None:
        return tuple(saes)
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
