"""Store texts that were run on request as a run of their own, in the tables of every run."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from db.layout import StoreLayout
from db.provenance import RunInfo, RunKind, write_run
from db.shards import write_shard
from db.store import open_store
from energylens.wire import encode
from ingest.bench import Bench
from ingest.efas import GradientTally
from ingest.measure import Measured
from ingest.rows import RowMaker
from ingest.run import tables_of


def keep(bench: Bench, kind: RunKind, settings: object, kept: Sequence[Measured]) -> str:
    """Write what was measured as one run; its id. The same request again finds the run it made.

    Each Measured holds one context, numbered from 0 in their order.

    Raises:
        StoreError: the store cannot be written.
    """
    asked = encode(settings)
    digest = hashlib.sha256(f"{bench.run.run_id}\n{kind}\n{asked}".encode()).hexdigest()
    run_id = f"{kind}-{digest[:8]}"
    layout = StoreLayout(bench.store).run(run_id)
    if layout.complete_shards():
        return run_id
    instruments = replace(bench.instruments, keep_activations=False)
    run = _run(bench, run_id, kind, asked, kept)
    rows = RowMaker(run_id, run.n_ctx, bench.model.tokenizer, _counts(bench))
    with write_shard(layout, 0, tables_of(instruments)) as writer:
        tally = GradientTally(instruments, run_id, 0, run.n_ctx)
        texts = [context.text for measured in kept for context in measured.contexts]
        writer.write("texts", rows.texts(texts))
        for measured in kept:
            bare = replace(measured, activations={})
            for table, arrow in rows.block(bare, instruments, tally):
                writer.write(table, arrow)
        write_run(layout.run_json, run)
    return run_id


def _run(
    bench: Bench, run_id: str, kind: RunKind, settings: str, kept: Sequence[Measured]
) -> RunInfo:
    contexts = [context for measured in kept for context in measured.contexts]
    texts = "\n".join(context.text.text.text for context in contexts)
    return replace(
        bench.run,
        run_id=run_id,
        kind=kind,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        texts=f"{kind} on request",
        texts_sha256=hashlib.sha256(texts.encode()).hexdigest(),
        n_texts=len(contexts),
        n_contexts=len(contexts),
        n_tokens=sum(len(context.ids) for context in contexts),
        lens_layers=list(bench.instruments.lens_layers),
        efas=[],
        keep=[],
        n_shards=1,
        base_run=bench.run.run_id,
        settings=settings,
    )


def _counts(bench: Bench) -> np.ndarray:
    """How often each vocabulary id occurs in the base run's corpus."""
    counts = np.zeros(len(bench.model.tokenizer), dtype=np.int64)
    with open_store(bench.store) as store:
        found = store.cursor().execute(
            "SELECT vocab_id, count(*) AS n FROM tokens WHERE run_id = $run AND NOT is_special "
            "GROUP BY vocab_id",
            {"run": bench.run.run_id},
        )
        rows = found.fetchnumpy()
    counts[np.asarray(rows["vocab_id"])] = np.asarray(rows["n"])
    return counts
