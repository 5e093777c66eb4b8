"""What is counted of a corpus is counted once: kept in the store, read by every later process.

The file is found by a hash of the texts' own bytes, so reading and hashing them takes the place of
tokenizing them, which takes a hundred times as long.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import energylens
from energylens.db.claim import claim
from energylens.db.layout import StoreLayout
from energylens.db.version import create_store
from energylens.db.whole import partial_of, writing
from energylens.ingest.corpus import Corpus, CorpusPlan, Survey
from energylens.ingest.texts import source_sha256
from energylens.lens.models import tokenizer_sha256

_SCHEMA = pa.schema(
    [
        pa.field("kind", pa.string()),  # text, or vocabulary
        pa.field("number", pa.int64()),  # text_id, or vocab_id
        pa.field("tokens", pa.int64()),  # how many the text has, or how often the entry occurs
    ]
)


def planned(corpus: Corpus, store: Path | None) -> CorpusPlan:
    """The plan of a corpus. The first process to ask makes it and leaves `plans/<hash>.parquet` in
    the store, others wait for it; without a store it is made and not kept.

    Raises:
        TextsError: the texts cannot be read, or hold no token at all.
        StoreError: the store cannot be written.
    """
    if store is None:
        return corpus.plan()
    path = plan_path(corpus, store)
    found = read_survey(path, corpus)
    if found is None:
        create_store(store)
        with claim(path.with_suffix(".lock"), "the plan of these texts", "wait", math.inf):
            found = read_survey(path, corpus)
            if found is None:
                found = corpus.survey()
                _write(path, found)
    return corpus.arrange(found)


def known_plan(corpus: Corpus, store: Path) -> CorpusPlan | None:
    """The plan that lies in the store; None where there is none. Nothing is written."""
    found = read_survey(plan_path(corpus, store), corpus)
    return None if found is None else corpus.arrange(found)


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
        table = pq.read_table(path, page_checksum_verification=True).select(_SCHEMA.names)
    except (OSError, KeyError, pa.ArrowException):
        return None
    sha256 = (table.schema.metadata or {}).get(b"sha256")
    if sha256 is None:
        return None
    kind, number, tokens = (table.column(name).to_numpy() for name in _SCHEMA.names)
    is_text = kind == "text"
    vocab_counts = np.zeros(corpus.n_counted, dtype=np.int64)
    vocab_counts[number[~is_text]] = tokens[~is_text]
    return Survey(tokens[is_text], vocab_counts, sha256.decode())


def _write(path: Path, survey: Survey) -> None:
    used = np.flatnonzero(survey.vocab_counts)
    n_texts = len(survey.n_tokens)
    table = pa.table(
        {
            "kind": ["text"] * n_texts + ["vocabulary"] * len(used),
            "number": np.concatenate([np.arange(n_texts), used]),
            "tokens": np.concatenate([survey.n_tokens, survey.vocab_counts[used]]),
        },
        schema=_SCHEMA.with_metadata({"sha256": survey.sha256}),
    )
    partial = partial_of(path)
    with writing(f"the plan '{path}'"):
        pq.write_table(table, partial, compression="zstd", write_page_checksum=True)
        partial.replace(path)
