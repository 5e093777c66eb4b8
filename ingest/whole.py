"""A run from what was asked for to its last table: what the command `energylens ingest` does."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from energylens.db.store import open_store
from energylens.errors import StoreBusyError, UsageError
from energylens.ingest.index.build import build_indexes
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.plan_file import planned
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest as make_shards
from energylens.queries.face import OpenStore


def make_run(store: Path, config: IngestConfig, part: Part | None, progress: Progress) -> str:
    """Make the shards of one part of a run, or with None whichever are free; the run's id. Its
    index is made by `build_indexes`.

    Raises:
        UsageError: something asked for is not there or does not fit together.
        CheckRefusedError: the gate refuses an SAE.
        StoreError: the store cannot be written.
    """
    progress.say(f"loading {config.model}")
    loaded = load(config, partial(planned, store=store, say=progress.say))
    if loaded.plan.n_empty:
        progress.say(f"{loaded.plan.n_empty:,} texts are empty; they have no tokens")
    for notice in loaded.notices:
        progress.say(notice)
    prepared = prepare(store, loaded, progress.say)
    for sae in prepared.run.saes:
        recovered = "·" if sae.ce_loss_score is None else f"{sae.ce_loss_score:.3f}"
        progress.say(
            f"gate {sae.sae_id}: fvu {sae.fvu:.3f}  L0 {sae.l0:.1f}  dead {sae.n_dead}  "
            f"dense {sae.n_dense}  of {sae.d_sae}  CE recovered {recovered}  {sae.gate}"
        )
    make_shards(prepared, part, progress)
    return prepared.run.run_id


def index_once(store: Path, run_id: str, progress: Progress) -> None:
    """Make the index of a run, unless it is fresh, or another process is making it.

    Raises:
        StoreError: the store cannot be read or written.
    """
    with open_store(store) as opened:
        is_fresh = opened.run(run_id).index == "fresh"
    try:
        if not is_fresh:
            build_indexes(store, progress, run_id)
    except StoreBusyError as error:
        progress.say(str(error))


def ingest(
    store: str | os.PathLike[str],
    model: str,
    texts: str | os.PathLike[str],
    saes: Sequence[str] = (),
    *,
    hooks: Sequence[str] = (),
    energies: str = "all",
    keep: Sequence[str] = (),
    efas: Sequence[str] | None = None,
    n_ctx: int | None = None,
    prepend_bos: bool | None = None,
    dtype: str = "float32",
    batch_tokens: int = 2048,
    run_id: str | None = None,
    accept_gate: bool = False,
) -> OpenStore:
    """Run a model with SAEs over texts, store what is seen at every token, make the index.

    It does what `energylens ingest` does, and takes the same words: `model`, `texts` and `saes` are
    directories, files, hub names or builtin:...; None means what the command takes by default. The
    same call again goes on where the last one stopped. Progress goes to stderr. The store is
    returned open.

    Raises:
        UsageError: something asked for is not there or does not fit together.
        CheckRefusedError: the gate refuses an SAE, and `accept_gate` is false.
        StoreError: the store cannot be written.
    """
    config = IngestConfig(
        model=model,
        texts=os.fspath(texts),
        saes=_several("saes", saes),
        hooks=_several("hooks", hooks),
        energies=energies,
        keep=_several("keep", keep),
        efas=None if efas is None else _several("efas", efas),
        n_ctx=n_ctx,
        prepend_bos=prepend_bos,
        dtype=dtype,
        accept_gate=accept_gate,
        batch_tokens=batch_tokens,
        run_id=run_id,
    )
    path, progress = Path(store), Progress()
    try:
        made = make_run(path, config, Part(), progress)
        build_indexes(path, progress, made)
    finally:
        progress.close()
    return OpenStore(path)


def _several(what: str, given: Sequence[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise UsageError(f"{what} takes a list; give {what}=['{given}']")
    return tuple(given)
