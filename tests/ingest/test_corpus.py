"""Contexts: no token is lost, none stands twice, and numbers depend on the corpus alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energylens.errors import TextsError
from energylens.ingest.corpus import Corpus
from energylens.lens.batching import batches
from energylens.lens.energy import NO_NEXT

TEXTS = st.lists(st.text("ab 🐕é\n", max_size=80), min_size=1, max_size=12)


def write(path: Path, texts: list[str]) -> str:
    path.write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return str(path)


@given(texts=TEXTS, n_ctx=st.integers(2, 12), with_bos=st.booleans())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_contexts_hold_every_token_once(
    tmp_path: Path, tokenizer: Any, texts: list[str], n_ctx: int, with_bos: bool
) -> None:
    spec = write(tmp_path / "x.jsonl", texts)
    corpus = Corpus(spec, tokenizer, n_ctx, 0 if with_bos else None)
    expected = [tokenizer.encode(text, add_special_tokens=False) for text in texts]
    if not any(expected):
        with pytest.raises(TextsError, match="hold no token"):
            corpus.plan()
        return
    plan = corpus.plan()
    skip = int(with_bos)
    seen, n_tokens = [], 0
    for text, ids in zip(corpus.texts(lambda _: True), expected, strict=True):
        contexts = list(corpus.contexts(text, plan.first_of(text)))
        assert [i for c in contexts for i in c.ids[skip:]] == ids
        assert b"".join(p.data for c in contexts for p in c.pieces if p) == text.text.text.encode()
        following = [n for c in contexts for n in c.next_ids[skip:]]
        assert following == [*ids[1:], NO_NEXT][: len(ids)]
        for context in contexts:
            assert len(context.ids) <= n_ctx
            assert len(context.ids) == len(context.next_ids) == len(context.pieces)
            assert not with_bos or (context.ids[0] == 0 and context.pieces[0] is None)
            assert not with_bos or context.next_ids[0] == context.ids[1]
        seen += [c.context_id for c in contexts]
        n_tokens += sum(len(c.ids) for c in contexts)
    assert seen == list(range(plan.n_contexts))
    assert n_tokens == plan.n_tokens


def test_shards_cover_all_contexts_and_do_not_depend_on_who_asks(
    tmp_path: Path, tokenizer: Any, small_shards: None
) -> None:
    texts = ["The cat sat on the mat. " * n for n in (1, 9, 0, 3, 30, 2)]
    corpus = Corpus(write(tmp_path / "x.jsonl", texts), tokenizer, 16, 0)
    plan = corpus.plan()
    assert plan.n_shards > 3
    assert plan.shard_starts[0] == 0 and plan.shard_starts[-1] == plan.n_contexts
    assert (np.diff(plan.shard_starts) > 0).all()
    every = {s for text_id in range(len(texts)) for s in plan.shards_of_text(text_id)}
    assert every == set(range(plan.n_shards))
    assert plan.n_empty == 1
    for context_id in range(plan.n_contexts):
        shard = plan.shard_of(context_id)
        assert plan.shard_starts[shard] <= context_id < plan.shard_starts[shard + 1]


def test_the_hash_tells_texts_categories_and_order_apart(tmp_path: Path, tokenizer: Any) -> None:
    def sha(rows: list[dict[str, str]]) -> str:
        path = tmp_path / "x.jsonl"
        path.write_text("\n".join(json.dumps(row) for row in rows))
        return Corpus(str(path), tokenizer, 8, 0).plan().sha256

    a, b = {"text": "ab", "category": "k"}, {"text": "c", "category": "k"}
    hashes = [
        sha([a, b]),
        sha([b, a]),
        sha([{**a, "category": "l"}, b]),
        sha([{"text": "abc", "category": "k"}]),
    ]
    assert len(set(hashes)) == 4
    assert sha([a, b]) == hashes[0]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30), st.integers(1, 100))
def test_batches_hold_each_context_once_within_their_size(
    lengths: list[int], batch_tokens: int
) -> None:
    found = list(batches(lengths, batch_tokens))
    assert sorted(i for batch in found for i in batch) == list(range(len(lengths)))
    for batch in found:
        padded = len(batch) * max(lengths[i] for i in batch)
        assert padded <= batch_tokens or len(batch) == 1


def test_a_context_without_room_for_text_is_refused(tokenizer: Any) -> None:
    with pytest.raises(TextsError, match="no room"):
        Corpus("builtin:categories", tokenizer, 1, 0)
