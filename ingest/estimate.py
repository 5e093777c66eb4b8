"""Forecast time, disk and memory of an ingest from a short trial on its own texts."""

import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from energylens.db.layout import RunLayout
from energylens.db.manifest import read_manifest
from energylens.db.shards import write_shard
from energylens.ingest.gate_sample import sample_contexts
from energylens.ingest.gradient_sums import GradientTally
from energylens.ingest.plan import Loaded
from energylens.ingest.rows import RowMaker
from energylens.ingest.run import BLOCK_TOKENS, Block, tables_of, write_block

INDEX_SHARE = 1.1
"""Bytes of the index for each byte of codes: the same codes in feature order, and statistics."""


@dataclass(frozen=True)
class Estimate:
    """What an ingest will take on this machine."""

    n_texts: int
    n_contexts: int
    n_tokens: int
    n_shards: int
    trial_tokens: int
    """Tokens the trial ran on."""
    tokens_per_second: float
    plan_seconds: float
    """For counting the texts, as it was measured; next to nothing where the store knows them."""
    seconds: float
    """For counting and all shards, without loading and index."""
    bytes_total: int
    """Shards and index together."""
    peak_memory: int
    """Bytes of the trial's process at its largest; the ingest stays near it."""


def estimate(loaded: Loaded) -> Estimate:
    """Run one block of contexts spread over the corpus through everything, twice.

    The first time warms caches up; the second is measured. Nothing is kept.
    """
    contexts = sample_contexts(loaded.corpus, loaded.plan, BLOCK_TOKENS)
    block = Block(contexts=contexts, n_tokens=sum(len(c.ids) for c in contexts))
    block.texts = list({c.text.text_id: c.text for c in contexts}.values())
    rows = RowMaker(
        "trial",
        loaded.corpus.n_ctx,
        loaded.instruments.model.tokenizer,
        loaded.plan.vocab_counts,
    )
    tables = tables_of(loaded.instruments)
    with tempfile.TemporaryDirectory() as folder:
        layout = RunLayout(Path(folder))
        seconds = 0.0
        for number in range(2):
            began = time.perf_counter()
            with write_shard(layout, number, tables) as writer:
                tally = GradientTally(loaded.instruments, "trial", number, loaded.corpus.n_ctx)
                write_block(writer, rows, loaded.instruments, block, tally)
            seconds = time.perf_counter() - began
        files = read_manifest(layout.shard(1)).files
    n_bytes = sum(f.n_bytes * (1 + INDEX_SHARE * (f.table == "codes")) for f in files)
    scale = loaded.plan.n_tokens / block.n_tokens
    return Estimate(
        n_texts=loaded.plan.n_texts,
        n_contexts=loaded.plan.n_contexts,
        n_tokens=loaded.plan.n_tokens,
        n_shards=loaded.plan.n_shards,
        trial_tokens=block.n_tokens,
        tokens_per_second=block.n_tokens / seconds,
        plan_seconds=loaded.plan_seconds,
        seconds=loaded.plan_seconds + seconds * scale,
        bytes_total=round(n_bytes * scale),
        peak_memory=peak_memory(),
    )


def peak_memory() -> int:
    """The most memory this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
