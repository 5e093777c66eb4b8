"""Forecast time, disk and memory of an ingest and its index from a short trial on its own texts."""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from energylens.db.layout import StoreLayout
from energylens.db.manifest import read_manifest
from energylens.db.schema import GRADIENT_POSITIONS, GRADIENT_SUMS
from energylens.db.shards import write_shard
from energylens.ingest.corpus import Context, TokenizedText
from energylens.ingest.gate_sample import sample_contexts
from energylens.ingest.gradient_sums import GradientTally
from energylens.ingest.index.build import build_indexes
from energylens.ingest.plan import Loaded, Prepared, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.rows import RowMaker
from energylens.ingest.run import blocks, tables_of, write_block

BLOCK_TOKENS = 4_096
N_BLOCKS = 8
"""The trial runs on so many blocks of so many tokens; on fewer where one takes long."""
ENOUGH_SECONDS = 60.0
"""What blocks after the first may take together."""
_ONE_A_SHARD = (GRADIENT_POSITIONS.name, GRADIENT_SUMS.name)
"""Tables whose size goes with the shards, not with the tokens."""


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
    gate_seconds: float
    """For trying the SAEs, as it was measured."""
    shard_seconds: float
    index_seconds: float
    seconds: float
    """All of it; loading models comes before."""
    bytes_total: int
    """Shards and index together."""
    peak_memory: int
    """Bytes of the trial's process at its largest; the ingest stays near it."""


@dataclass(frozen=True)
class Line:
    """What grows with the tokens: measured at two sizes, never falling."""

    n: tuple[int, int]
    measured: tuple[float, float]

    def at(self, n: int) -> float:
        """The value at `n` tokens."""
        (n0, n1), (y0, y1) = self.n, self.measured
        slope = max(0.0, y1 - y0) / (n1 - n0) if n1 > n0 else y1 / max(n1, 1)
        return y1 + slope * (n - n1)


@dataclass(frozen=True)
class Trial:
    """What was measured on some tokens of the corpus."""

    n_tokens: int
    gate_seconds: float
    token_seconds: float
    """For one token, the end of its shard left aside."""
    end_seconds: float
    """For the end of a shard."""
    token_bytes: float
    shard_bytes: float
    """Of one shard, whatever its tokens."""
    index_seconds: Line
    index_bytes: Line


def estimate(loaded: Loaded, clock: Callable[[], float] = time.perf_counter) -> Estimate:
    """Run a few blocks of contexts spread over the corpus through everything, index included.

    Nothing is kept. `clock` is what time is read from.
    """
    with tempfile.TemporaryDirectory() as folder:
        trial = _trial(Path(folder), loaded, clock)
    plan = loaded.plan
    shard_seconds = trial.token_seconds * plan.n_tokens + trial.end_seconds * plan.n_shards
    index_seconds = trial.index_seconds.at(plan.n_tokens)
    shard_bytes = trial.token_bytes * plan.n_tokens + trial.shard_bytes * plan.n_shards
    return Estimate(
        n_texts=plan.n_texts,
        n_contexts=plan.n_contexts,
        n_tokens=plan.n_tokens,
        n_shards=plan.n_shards,
        trial_tokens=trial.n_tokens,
        tokens_per_second=plan.n_tokens / shard_seconds,
        plan_seconds=loaded.plan_seconds,
        gate_seconds=trial.gate_seconds,
        shard_seconds=shard_seconds,
        index_seconds=index_seconds,
        seconds=loaded.plan_seconds + trial.gate_seconds + shard_seconds + index_seconds,
        bytes_total=round(shard_bytes + trial.index_bytes.at(plan.n_tokens)),
        peak_memory=peak_memory(),
    )


def _trial(folder: Path, loaded: Loaded, clock: Callable[[], float]) -> Trial:
    """A store of two shards: the first warms caches up, the second is measured; the index of the
    first and the index of both say how it grows."""
    contexts = sample_contexts(loaded.corpus, loaded.plan, N_BLOCKS * BLOCK_TOKENS)
    n_blocks = min(N_BLOCKS, -(-_n_tokens(contexts) // BLOCK_TOKENS), len(contexts))
    parts = [contexts[i::n_blocks] for i in range(n_blocks)]  # each spread over the corpus
    two = replace(loaded.plan, shard_starts=np.array([0, 0, loaded.plan.n_contexts]))
    config = replace(loaded.config, accept_gate=True, run_id="trial")
    began = clock()
    prepared = prepare(folder, replace(loaded, plan=two, config=config))
    gate_seconds = clock() - began
    written: set[int] = set()
    first = _write(prepared, 0, parts[0], written, clock)
    index = [_index(folder, clock)]
    if index[0].seconds < ENOUGH_SECONDS / 4:  # once more, warm
        index = [_index(folder, clock)]
    enough = max(1, round(ENOUGH_SECONDS / first.seconds))
    rest = [context for part in parts[1 : 1 + enough] for context in part]
    rest.sort(key=lambda context: context.context_id)
    second = _write(prepared, 1, rest or parts[0], written, clock)
    if rest:
        index.append(_index(folder, clock))
    n = (first.n_tokens, first.n_tokens + (second.n_tokens if rest else 0))
    return Trial(
        n_tokens=n[1],
        gate_seconds=gate_seconds,
        token_seconds=second.seconds / second.n_tokens,
        end_seconds=second.end_seconds,
        token_bytes=second.token_bytes / second.n_tokens,
        shard_bytes=float(second.shard_bytes),
        index_seconds=Line(n, (index[0].seconds, index[-1].seconds)),
        index_bytes=Line(n, (float(index[0].n_bytes), float(index[-1].n_bytes))),
    )


@dataclass(frozen=True)
class _Shard:
    """One shard as it was written."""

    n_tokens: int
    seconds: float
    end_seconds: float
    token_bytes: int
    shard_bytes: int


@dataclass(frozen=True)
class _Index:
    """An index as it was built."""

    seconds: float
    n_bytes: int


def _write(
    prepared: Prepared,
    number: int,
    contexts: Sequence[Context],
    written: set[int],
    clock: Callable[[], float],
) -> _Shard:
    """Write a shard of these contexts; `written` are the texts that have their row already."""
    run, instruments = prepared.run, prepared.instruments
    tokenizer = instruments.model.tokenizer
    rows = RowMaker(run.run_id, run.n_ctx, tokenizer, prepared.plan.vocab_counts)
    tally = GradientTally(instruments, run.run_id, number, run.n_ctx)
    began = clock()
    with write_shard(prepared.layout, number, tables_of(instruments)) as writer:
        for block in blocks(_with_texts(contexts, written)):
            write_block(writer, rows, instruments, block, tally)
        blocks_end = clock()
        for table, arrow in tally.rows():
            writer.write(table, arrow)
    end = clock()
    files = read_manifest(prepared.layout.shard(number)).files
    shard_bytes = sum(f.n_bytes for f in files if f.table in _ONE_A_SHARD)
    return _Shard(
        n_tokens=_n_tokens(contexts),
        seconds=blocks_end - began,
        end_seconds=end - blocks_end,
        token_bytes=sum(f.n_bytes for f in files) - shard_bytes,
        shard_bytes=shard_bytes,
    )


def _with_texts(
    contexts: Sequence[Context], written: set[int]
) -> Iterator[TokenizedText | Context]:
    for context in contexts:
        if context.text.text_id not in written:
            written.add(context.text.text_id)
            yield context.text
        yield context


def _n_tokens(contexts: Sequence[Context]) -> int:
    return sum(len(context.ids) for context in contexts)


class _Silent(Progress):
    """Of a trial nothing is told."""

    def _write(self, text: str) -> None:
        pass


def _index(store: Path, clock: Callable[[], float]) -> _Index:
    began = clock()
    build_indexes(store, _Silent(), "trial")
    seconds = clock() - began
    files = read_manifest(StoreLayout(store).run("trial").index).files
    return _Index(seconds, sum(f.n_bytes for f in files))


def peak_memory() -> int:
    """The most memory this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
