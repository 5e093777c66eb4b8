"""What is counted of a corpus is counted once: kept in the store, read by every later process.

The file is found by a hash of the texts' own bytes, so reading and hashing them takes the place of
tokenizing them, which takes a hundred times as long.
"""

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import energylens
from energylens.db.claim import claim
from energylens.db.layout import StoreLayout, lock_of_plan
from energylens.db.version import create_store
from energylens.db.whole import fresh_partial, open_plain, sync, writing
from energylens.errors import StoreBusyError
from energylens.ingest.corpus import Corpus, CorpusPlan, Survey
from energylens.ingest.texts import source_sha256
from energylens.lens.models import tokenizer_sha256

COUNTING = "counting the tokens of the texts, once"

_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string()),  # text, or vocabulary
        pa.field("number", pa.int64()),  # text_id, or vocab_id
        pa.field("tokens", pa.int64()),  # how many the text has, or how often the entry occurs
    ]
)


def planned(
    corpus: Corpus,
    store: Path | None,
    say: Callable[[str], None] = lambda _: None,
    keep: bool = True,
) -> CorpusPlan:
    """The plan of a corpus. The first process to ask makes it and leaves `plans/<hash>.parquet` in
    the store, others wait for it. Without a store, or where it is not to be `keep`t, a plan that
    is not there is made and not left there. `say` is told what takes long.

    Raises:
        TextsError: the texts cannot be read, or hold no token at all.
        StoreError: the store cannot be written.
    """
    path = None if store is None else plan_path(corpus, store)
    found = None if path is None else read_survey(path, corpus)
    if found is None:
        if store is None or path is None or not keep:
            say(COUNTING)
            found = corpus.survey()
        else:
            create_store(store)
            found = _counted_once(path, corpus, say)
    return corpus.arrange(found)


def _counted_once(path: Path, corpus: Corpus, say: Callable[[str], None]) -> Survey:
    lock = lock_of_plan(path)
    what, advice = f"the plan '{path.name}' of these texts", "waiting for it"
    with ExitStack() as held:
        try:
            held.enter_context(claim(lock, what, advice))
        except StoreBusyError as error:
            say(str(error))
            held.enter_context(claim(lock, what, advice, math.inf))
        found = read_survey(path, corpus)
        if found is None:
            say(COUNTING)
            found = corpus.survey()
            _write(path, found)
        return found


def plan_path(corpus: Corpus, store: Path) -> Path:
    """Where the plan lies: named by everything that decides what is counted."""
    parts = [
        source_sha256(corpus.spec),
        tokenizer_sha256(corpus.tokenizer),
        corpus.bos_id,  # tokens that begin with it are counted without
        corpus.n_ids,
        energylens.__version__,
    ]
    name = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return StoreLayout(store).plans / f"{name}.parquet"


def read_survey(path: Path, corpus: Corpus) -> Survey | None:
    """What was counted; None where it lies not there or is damaged, and is to be counted anew."""
    try:
        with open_plain(path) as file:
            table = pq.read_table(file)
        known = table.schema.metadata or {}
        found = _survey(table, corpus.n_counted, known[b"sha256"].decode())
    except (OSError, pa.ArrowException, LookupError, ValueError):
        return None
    return found if known.get(b"sum") == _sum_of(found).encode() else None


def _survey(table: pa.Table, n_counted: int, sha256: str) -> Survey:
    lengths = table.filter(pc.field("kind") == "text")["tokens"].to_numpy()
    entries = table.filter(pc.field("kind") == "vocabulary")
    vocab_counts = np.zeros(n_counted, dtype=np.int64)
    vocab_counts[entries["number"].to_numpy()] = entries["tokens"].to_numpy()
    return Survey(lengths, vocab_counts, sha256)


def _sum_of(survey: Survey) -> str:
    """A checksum of all that is kept."""
    digest = hashlib.sha256(survey.sha256.encode())
    for numbers in (survey.n_tokens, survey.vocab_counts):
        digest.update(f";{len(numbers)};".encode())
        digest.update(np.ascontiguousarray(numbers, dtype="<i8").tobytes())
    return digest.hexdigest()


def _write(path: Path, survey: Survey) -> None:
    used = np.flatnonzero(survey.vocab_counts)
    n_texts = len(survey.n_tokens)
    kinds = pa.chunked_array([pa.repeat("text", n_texts), pa.repeat("vocabulary", len(used))])
    table = pa.table(
        {
            "kind": kinds,
            "number": np.concatenate([np.arange(n_texts), used]),
            "tokens": np.concatenate([survey.n_tokens, survey.vocab_counts[used]]),
        },
        schema=_SCHEMA.with_metadata({"sha256": survey.sha256, "sum": _sum_of(survey)}),
    )
    with writing(f"the plan '{path}'"):
        partial = fresh_partial(path)
        pq.write_table(table, partial, compression="zstd")
        sync(partial)
        partial.replace(path)
