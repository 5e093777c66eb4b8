"""Store texts that were run on request as a run of their own, in the tables of every run."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from energylens.db.change import create_run
from energylens.db.layout import StoreLayout
from energylens.db.leftovers import clean_store
from energylens.db.provenance import RunInfo, RunKind
from energylens.db.shards import write_shard
from energylens.db.store import open_store
from energylens.ingest.gradient_sums import GradientTally
from energylens.ingest.machine import this_machine
from energylens.ingest.measure import Measured
from energylens.ingest.on_request.reopen import Reopened
from energylens.ingest.rows import RowMaker
from energylens.ingest.run import tables_of
from energylens.queries.catalog import write_catalog
from energylens.wire import encode


def keep(reopened: Reopened, kind: RunKind, settings: object, kept: Sequence[Measured]) -> str:
    """Write what was measured as one run; its id. The same request again finds the run it made.

    Each Measured holds one context, numbered from 0 in their order.

    Raises:
        StoreError: the store cannot be written.
    """
    asked = encode(settings)
    digest = hashlib.sha256(f"{reopened.run.run_id}\n{kind}\n{asked}".encode()).hexdigest()
    run_id = f"{kind}-{digest[:8]}"
    layout = StoreLayout(reopened.store).run(run_id)
    clean_store(reopened.store)
    if done := layout.complete_shards():
        catalog = StoreLayout(reopened.store).catalog
        if not catalog.exists() or catalog.stat().st_mtime < done[0].stat().st_mtime:
            write_catalog(reopened.store)  # killed before that, the last time
        return run_id
    instruments = replace(reopened.instruments, keep_activations=False)
    run = _run(reopened, run_id, kind, asked, kept)
    rows = RowMaker(run_id, run.n_ctx, reopened.model.tokenizer, _counts(reopened))
    with write_shard(layout, 0, tables_of(instruments), this_machine()) as writer:
        tally = GradientTally(instruments, run_id, 0, run.n_ctx)
        texts = [context.text for measured in kept for context in measured.contexts]
        writer.write("texts", rows.texts(texts))
        for measured in kept:
            bare = replace(measured, activations={})
            for table, arrow in rows.block(bare, instruments, tally):
                writer.write(table, arrow)
        create_run(layout, run)
    write_catalog(reopened.store)
    return run_id


def _run(
    reopened: Reopened, run_id: str, kind: RunKind, settings: str, kept: Sequence[Measured]
) -> RunInfo:
    contexts = [context for measured in kept for context in measured.contexts]
    texts = "\n".join(context.text.text.text for context in contexts)
    return replace(
        reopened.run,
        run_id=run_id,
        kind=kind,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        texts=f"{kind} on request",
        texts_sha256=hashlib.sha256(texts.encode()).hexdigest(),
        n_texts=len(contexts),
        n_contexts=len(contexts),
        n_tokens=sum(len(context.ids) for context in contexts),
        lens_layers=list(reopened.instruments.lens_layers),
        efas=[],
        keep=[],
        n_shards=1,
        additions=[],
        base_run=reopened.run.run_id,
        settings=settings,
    )


def _counts(reopened: Reopened) -> np.ndarray:
    """How often each vocabulary id occurs in the base run's corpus."""
    counts = np.zeros(len(reopened.model.tokenizer), dtype=np.int64)
    with open_store(reopened.store) as store:
        found = store.cursor().execute(
            "SELECT vocab_id, count(*) AS n FROM tokens WHERE run_id = $run AND NOT is_special "
            "GROUP BY vocab_id",
            {"run": reopened.run.run_id},
        )
        rows = found.fetchnumpy()
    counts[np.asarray(rows["vocab_id"])] = np.asarray(rows["n"])
    return counts
