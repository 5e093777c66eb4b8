"""Make the shards of a run, skipping those that are complete."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from energylens.db.claim import holder_of
from energylens.db.layout import RunLayout
from energylens.db.mounts import refuse_lonely_locks
from energylens.db.schema import (
    CODES,
    CONTEXTS,
    ENERGIES,
    GRADIENT_CONTEXTS,
    GRADIENT_POSITIONS,
    GRADIENT_SUMS,
    ROUTING,
    ROUTING_TOKENS,
    TEXTS,
    TOKENS,
)
from energylens.db.shards import ShardWriter, lock_of, write_shard
from energylens.db.vectors import ENERGY_GRADIENTS, KEPT_ACTIVATIONS
from energylens.errors import StoreBusyError
from energylens.ingest.corpus import Context, TokenizedText
from energylens.ingest.gradient_sums import GradientTally
from energylens.ingest.machine import this_machine
from energylens.ingest.measure import Instruments, measure
from energylens.ingest.parts import Part
from energylens.ingest.plan import Prepared
from energylens.ingest.progress import Progress
from energylens.ingest.reading import Reading
from energylens.ingest.rows import RowMaker

_PAUSE = 1.0
"""Seconds between two looks for a shard that has become free."""
BLOCK_TOKENS = 8_192
"""Tokens read before rows are written: bounds memory, and is the size of a row group."""


@dataclass
class Block:
    """Consecutive texts and contexts of one shard."""

    texts: list[TokenizedText] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)
    n_tokens: int = 0


def ingest(prepared: Prepared, part: Part | None, progress: Progress) -> int:
    """Make every shard of `part` that is not complete; with None, whichever shards no other process
    is making, until all of the run are complete. How many tokens this process made.

    Raises:
        StoreBusyError: another process is making a shard of `part`.
        StoreError: the disk is full or cannot be written, or of its locks other machines see none.
    """
    run, n_shards = prepared.layout, prepared.plan.n_shards
    mine = range(n_shards) if part is None else part.of(n_shards)
    missing = _missing(run, mine)
    if len(missing) < len(mine):
        progress.say(f"{len(mine) - len(missing)} of {len(mine)} shards are complete; going on")
    maker = ShardMaker(prepared, len(missing), progress)
    if part is None:
        refuse_lonely_locks(run.root)
        _make_free(run, missing, maker, progress.say)
    else:
        for number in missing:
            maker.make(number)
    return maker.tokens


def _missing(run: RunLayout, numbers: Iterable[int]) -> list[int]:
    return [n for n in numbers if not (run.shard(n) / "manifest.json").exists()]


def _make_free(
    run: RunLayout, missing: list[int], maker: "ShardMaker", say: Callable[[str], None]
) -> None:
    """Pass over the missing shards until there are none, making those that nobody holds. The
    kernel takes its claim from a process that dies, so that the next pass finds its shard free."""
    wanted, others, has_told = len(missing), 0, False
    while missing:
        before = maker.shards
        for number in missing:
            if not _missing(run, [number]):
                continue
            try:
                maker.make(number, others)
            except StoreBusyError:  # another process makes it, or has just made it
                continue
            others = wanted - len(_missing(run, missing)) - maker.shards
        missing = _missing(run, missing)
        if missing and maker.shards == before:
            if not has_told:
                say(_waiting(run, missing))
            has_told = True
            time.sleep(_PAUSE)


def _waiting(run: RunLayout, missing: list[int]) -> str:
    holder = holder_of(lock_of(run, missing[0]))
    by = "another process" if holder is None else f"process {holder.process} on {holder.host}"
    more = f", and {len(missing) - 1} more that others are making" if len(missing) > 1 else ""
    return f"waiting for shard {missing[0]}, which {by} is making{more}"


class ShardMaker:
    """Makes shards of a run, and tells how far all that were missing are."""

    def __init__(self, prepared: Prepared, n_missing: int, progress: Progress) -> None:
        plan, run = prepared.plan, prepared.run
        self._prepared, self._progress = prepared, progress
        self._mean = plan.n_tokens / plan.n_shards
        self._total = int(n_missing * self._mean)
        self._reading = Reading(prepared.corpus, plan)
        tokenizer = prepared.instruments.model.tokenizer
        self._rows = RowMaker(run.run_id, run.n_ctx, tokenizer, plan.vocab_counts)
        self._tables = tables_of(prepared.instruments)
        self.shards, self.tokens = 0, 0
        """What was made here."""
        progress.step("ingest", 0, self._total, "tokens")

    def make(self, number: int, others: int = 0) -> None:
        """Make a shard, where other processes have made so many of those that were missing.

        Raises:
            StoreBusyError: another process is making it, or has just made it.
            StoreError: the disk is full or cannot be written.
        """
        instruments, run = self._prepared.instruments, self._prepared.run
        made, by_others = 0, int(others * self._mean)
        with write_shard(self._prepared.layout, number, self._tables, this_machine()) as writer:
            tally = GradientTally(instruments, run.run_id, number, run.n_ctx)
            for block in blocks(self._reading.shard(number)):
                write_block(writer, self._rows, instruments, block, tally)
                made += block.n_tokens
                done = self.tokens + made + by_others
                self._progress.step(
                    "ingest", min(done, self._total), max(done, self._total), "tokens"
                )
            for table, arrow in tally.rows():
                writer.write(table, arrow)
        self.shards, self.tokens = self.shards + 1, self.tokens + made


def write_block(
    writer: ShardWriter,
    rows: RowMaker,
    instruments: Instruments,
    block: Block,
    tally: GradientTally,
) -> None:
    """Measure a block and append its rows."""
    if block.texts:
        writer.write("texts", rows.texts(block.texts))
    if block.contexts:
        measured = measure(instruments, block.contexts)
        for table, arrow in rows.block(measured, instruments, tally):
            writer.write(table, arrow)


def tables_of(instruments: Instruments) -> tuple[str, ...]:
    """The tables a shard of this run has."""
    optional = (
        (CODES, bool(instruments.saes)),
        (ENERGIES, bool(instruments.lens_layers)),
        *((table, instruments.keep_activations) for table in KEPT_ACTIVATIONS),
        (ENERGY_GRADIENTS, instruments.keep_gradients),
        (GRADIENT_CONTEXTS, bool(instruments.gradient_hooks)),
        (GRADIENT_POSITIONS, bool(instruments.gradient_hooks)),
        (GRADIENT_SUMS, bool(instruments.gradient_hooks)),
        (ROUTING, bool(instruments.routers)),
        (ROUTING_TOKENS, bool(instruments.routers)),
    )
    always = (TEXTS.name, CONTEXTS.name, TOKENS.name)
    return (*always, *(table.name for table, wanted in optional if wanted))


def blocks(items: Iterable[TokenizedText | Context]) -> Iterator[Block]:
    """Cut a stream into blocks of about BLOCK_TOKENS tokens."""
    block = Block()
    for item in items:
        if isinstance(item, TokenizedText):
            block.texts.append(item)
            continue
        block.contexts.append(item)
        block.n_tokens += len(item.ids)
        if block.n_tokens >= BLOCK_TOKENS:
            yield block
            block = Block()
    if block.texts or block.contexts:
        yield block
