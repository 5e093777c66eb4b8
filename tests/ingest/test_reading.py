"""Shards are read in any order, and in rising order with one pass over the texts."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energylens.ingest.corpus import Context, Corpus, CorpusPlan
from energylens.ingest.reading import Reading

TEXTS = ["The cat sat on the mat. " * n for n in (1, 0, 0, 9, 0, 3, 30, 2, 0)]
SEEN = tuple[list[str], list[tuple[int, list[int]]]]


@pytest.fixture
def corpus(tmp_path: Path, tokenizer: Any, small_shards: None) -> Corpus:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    return Corpus(str(path), tokenizer, 16, 0)


def seen(reading: Reading, number: int) -> SEEN:
    items = list(reading.shard(number))
    contexts = [item for item in items if isinstance(item, Context)]
    texts = [item.text.text for item in items if not isinstance(item, Context)]
    return texts, [(context.context_id, context.ids) for context in contexts]


def expected(corpus: Corpus, plan: CorpusPlan, number: int) -> SEEN:
    """By looking at every text."""
    every = list(corpus.texts(lambda _: True))
    texts = [t.text.text for t in every if plan.shards_of_text(t.text_id)[0] == number]
    contexts = [c for t in every for c in corpus.contexts(t, plan.first_of(t))]
    return texts, [(c.context_id, c.ids) for c in contexts if plan.shard_of(c.context_id) == number]


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_shards_in_any_order_are_what_they_are_alone(corpus: Corpus, data: st.DataObject) -> None:
    plan = corpus.plan()
    assert plan.n_shards > 5
    reading = Reading(corpus, plan)
    for number in data.draw(st.lists(st.integers(0, plan.n_shards - 1), max_size=8)):
        assert seen(reading, number) == expected(corpus, plan, number)


def test_rising_numbers_take_one_pass(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, rows, passes = corpus.plan(), Corpus.rows, []
    monkeypatch.setattr(Corpus, "rows", lambda self: passes.append(self) or rows(self))
    reading = Reading(corpus, plan)
    for number in range(0, plan.n_shards, 2):
        list(reading.shard(number))
    assert len(passes) == 1
    list(reading.shard(0))
    assert len(passes) == 2


def test_a_shard_that_was_left_in_the_middle_is_read_again(corpus: Corpus) -> None:
    plan = corpus.plan()
    reading = Reading(corpus, plan)
    left = reading.shard(1)
    next(left)
    del left
    for number in (1, 2):
        assert seen(reading, number) == expected(corpus, plan, number)
