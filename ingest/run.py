"""Make the shards of a run, skipping those that are complete."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

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
from energylens.db.shards import ShardWriter, write_shard
from energylens.db.vectors import ENERGY_GRADIENTS, KEPT_ACTIVATIONS
from energylens.errors import UsageError
from energylens.ingest.corpus import Context, Corpus, CorpusPlan, TokenizedText
from energylens.ingest.gradient_sums import GradientTally
from energylens.ingest.machine import this_machine
from energylens.ingest.measure import Instruments, measure
from energylens.ingest.plan import Prepared
from energylens.ingest.progress import Progress
from energylens.ingest.rows import RowMaker

BLOCK_TOKENS = 8_192
"""Tokens read before rows are written: bounds memory, and is the size of a row group."""


@dataclass(frozen=True)
class Part:
    """Which shards this process makes: those whose number is `index` modulo `count`."""

    index: int = 0
    count: int = 1

    @staticmethod
    def parse(text: str) -> "Part":
        """From `I/N` as people count: 1/8 to 8/8.

        Raises:
            UsageError: it is not that.
        """
        first, slash, second = text.partition("/")
        if slash and first.isdigit() and second.isdigit() and 1 <= int(first) <= int(second):
            return Part(int(first) - 1, int(second))
        raise UsageError(f"--shard takes I/N with I from 1 to N, such as 3/8; not '{text}'")


@dataclass
class Block:
    """Consecutive texts and contexts of one shard."""

    texts: list[TokenizedText] = field(default_factory=list)
    contexts: list[Context] = field(default_factory=list)
    n_tokens: int = 0


def ingest(prepared: Prepared, part: Part, progress: Progress) -> int:
    """Make every shard of `part` that is not complete; how many tokens that were.

    Raises:
        StoreBusyError: another process is making one of them.
        StoreError: the disk is full or cannot be written.
    """
    plan = prepared.plan
    mine = range(part.index, plan.n_shards, part.count)
    missing = {n for n in mine if not (prepared.layout.shard(n) / "manifest.json").exists()}
    if len(missing) < len(mine):
        progress.say(f"{len(mine) - len(missing)} of {len(mine)} shards are complete; going on")
    total = int(plan.n_tokens * len(missing) / plan.n_shards)
    rows = RowMaker(
        prepared.run.run_id,
        prepared.run.n_ctx,
        prepared.instruments.model.tokenizer,
        plan.vocab_counts,
    )
    tables = tables_of(prepared.instruments)
    done = 0
    progress.step("ingest", 0, total, "tokens")
    for number, items in groupby(stream(prepared.corpus, plan, missing), key=itemgetter(0)):
        with write_shard(prepared.layout, number, tables, this_machine()) as writer:
            tally = GradientTally(
                prepared.instruments, prepared.run.run_id, number, prepared.run.n_ctx
            )
            for block in blocks(item for _, item in items):
                write_block(writer, rows, prepared.instruments, block, tally)
                done += block.n_tokens
                progress.step("ingest", min(done, total), max(done, total), "tokens")
            for table, arrow in tally.rows():
                writer.write(table, arrow)
    return done


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


def stream(
    corpus: Corpus, plan: CorpusPlan, missing: set[int]
) -> Iterator[tuple[int, TokenizedText | Context]]:
    """Texts and contexts of the wanted shards, in the order of the shards."""
    for text in corpus.texts(plan.texts_in(missing).__getitem__):
        home = plan.shards_of_text(text.text_id)[0]
        if home in missing:
            yield home, text
        for context in corpus.contexts(text, plan.first_of(text)):
            shard = plan.shard_of(context.context_id)
            if shard in missing:
                yield shard, context
