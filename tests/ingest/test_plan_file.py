"""A corpus is counted once, by one process, and again only where texts or tokenizer changed."""

import json
import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energylens.db.layout import lock_of_plan
from energylens.db.leftovers import clean_store
from energylens.db.whole import partial_of
from energylens.errors import TextsError
from energylens.ingest.corpus import Corpus, Survey
from energylens.ingest.on_request.additions import add_vectors
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig
from energylens.ingest.plan_file import plan_path, planned, read_survey
from energylens.ingest.progress import Progress
from energylens.ingest.whole import make_run


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    rows = [{"text": "The cat sat on the mat. " * n, "category": "k"} for n in (1, 9, 0, 3, 30, 2)]
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def equal(one: Any, other: Any) -> bool:
    return all(np.array_equal(value, getattr(other, name)) for name, value in vars(one).items())


def never(self: Corpus) -> Survey:
    raise AssertionError("counted again")


def test_a_later_process_reads_what_the_first_counted(
    tmp_path: Path, texts: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "x.lens"
    first = Corpus(str(texts), tokenizer, 16, 0)
    expected = first.plan()
    assert not plan_path(first, store).exists()
    assert equal(planned(first, store), expected)
    wider = Corpus(str(texts), tokenizer, 64, 0).plan()
    monkeypatch.setattr(Corpus, "survey", never)
    assert equal(planned(Corpus(str(texts), tokenizer, 16, 0), store), expected)
    assert equal(planned(Corpus(str(texts), tokenizer, 64, 0), store), wider)
    moved = texts.rename(tmp_path / "y" / "x.jsonl" if (tmp_path / "y").mkdir() else texts)
    assert equal(planned(Corpus(str(moved), tokenizer, 16, 0), store), expected)


@pytest.mark.parametrize("change", ["a text", "the tokenizer", "the file"])
def test_what_changed_is_counted_anew(
    tmp_path: Path, texts: Path, tokenizer: Any, change: str
) -> None:
    store = tmp_path / "x.lens"
    corpus = Corpus(str(texts), tokenizer, 16, 0)
    planned(corpus, store)
    if change == "a text":
        texts.write_text(texts.read_text().replace("mat", "map", 1))
    elif change == "the tokenizer":
        corpus = Corpus(str(texts), with_another_word(tokenizer), 16, 0)
    else:
        path = plan_path(corpus, store)
        path.write_bytes(bytes([*path.read_bytes()[:60], 1, 2, 3, 4, *path.read_bytes()[64:]]))
    assert read_survey(plan_path(corpus, store), corpus) is None
    assert equal(planned(corpus, store), corpus.plan())
    assert read_survey(plan_path(corpus, store), corpus) is not None


def test_a_plan_that_is_damaged_or_made_up_is_counted_anew(
    tmp_path: Path, texts: Path, tokenizer: Any
) -> None:
    corpus, store = Corpus(str(texts), tokenizer, 16, 0), tmp_path / "x.lens"
    planned(corpus, store)
    path = plan_path(corpus, store)
    whole, content = read_survey(path, corpus), path.read_bytes()
    assert whole is not None
    by = random.Random(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[by.randrange(len(damaged))] ^= 1 << by.randrange(8)
        path.write_bytes(damaged)
        found = read_survey(path, corpus)
        assert found is None or equal(found, whole)  # of the file, not of what it says
    table = pq.read_table(pa.BufferReader(content))
    for number in (-1, 10**9):
        forged = table.set_column(1, "number", pa.array([number] * len(table)))
        pq.write_table(forged, path)
        assert read_survey(path, corpus) is None
    path.unlink()
    os.mkfifo(path)
    assert read_survey(path, corpus) is None


def with_another_word(tokenizer: Any) -> Any:
    changed = type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer)
    changed.add_tokens(["mat. "])
    return changed


def test_of_two_processes_one_counts_and_the_other_waits(
    tmp_path: Path, texts: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey, begun, go, calls = Corpus.survey, threading.Event(), threading.Event(), []

    def slow(self: Corpus) -> Survey:
        calls.append(self)
        begun.set()
        assert go.wait(60)
        return survey(self)

    monkeypatch.setattr(Corpus, "survey", slow)
    corpus, said = Corpus(str(texts), tokenizer, 16, 0), list[str]()

    def waits(message: str) -> None:
        said.append(message)
        go.set()

    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(planned, corpus, tmp_path / "x.lens")
        assert begun.wait(60)
        two = pool.submit(planned, corpus, tmp_path / "x.lens", waits)
        assert equal(one.result(60), two.result(60))
    assert len(calls) == 1
    assert any("waiting for it" in line for line in said)
    assert [path.suffix for path in (tmp_path / "x.lens" / "plans").iterdir()] == [".parquet"]
    clean_store(tmp_path / "x.lens")
    assert plan_path(calls[0], tmp_path / "x.lens").exists()


def test_what_a_killed_planner_left_is_cleared_away(
    tmp_path: Path, texts: Path, tokenizer: Any
) -> None:
    store = tmp_path / "x.lens"
    corpus = Corpus(str(texts), tokenizer, 16, 0)
    path = plan_path(corpus, store)
    path.parent.mkdir(parents=True)
    partial_of(path).write_bytes(b"half of a")
    lock_of_plan(path).write_text("process 1")
    clean_store(store)
    assert not list(path.parent.iterdir())


def test_parts_and_resumes_of_a_run_count_once(
    tmp_path: Path, config: IngestConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    survey, calls = Corpus.survey, []
    monkeypatch.setattr(Corpus, "survey", lambda self: calls.append(self) or survey(self))
    monkeypatch.setattr("energylens.ingest.corpus.SHARD_TOKENS", 40)
    small = replace(config, saes=(), energies="output")
    for part in (Part(1, 2), Part(0, 2), Part(0, 2)):
        make_run(tmp_path / "x.lens", small, part, Progress())
    (run,) = (tmp_path / "x.lens" / "runs").iterdir()
    add_vectors(tmp_path / "x.lens", run.name, "activations", "blocks.1.hook_mlp_out", Progress())
    assert len(calls) == 1


def test_texts_that_cannot_be_planned_leave_no_plan(tmp_path: Path, tokenizer: Any) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(TextsError, match="hold no token"):
        planned(Corpus(str(tmp_path / "x.jsonl"), tokenizer, 16, 0), tmp_path / "x.lens")
    assert not list((tmp_path / "x.lens").rglob("*.parquet"))


@given(
    counts=st.lists(st.integers(0, 50), min_size=1, max_size=40).filter(any),
    n_ctx=st.integers(2, 20),
    bos_id=st.sampled_from([0, None]),
)
def test_contexts_and_shards_follow_from_the_counts(
    tokenizer: Any, counts: list[int], n_ctx: int, bos_id: int | None
) -> None:
    corpus = Corpus("", tokenizer, n_ctx, bos_id)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("energylens.ingest.corpus.SHARD_TOKENS", 40)
        plan = corpus.arrange(Survey(np.array(counts), np.zeros(1), ""))
    room = n_ctx - (bos_id is not None)
    sizes = [min(room, n - start) + n_ctx - room for n in counts for start in range(0, n, room)]
    starts = [
        i for i in range(len(sizes)) if i == 0 or sum(sizes[:i]) // 40 > sum(sizes[: i - 1]) // 40
    ]
    assert plan.n_tokens == sum(sizes)
    assert plan.shard_starts.tolist() == [*starts, len(sizes)]
    for shard in range(plan.n_shards):
        expected = [i for i in range(len(counts)) if shard in plan.shards_of_text(i)]
        assert list(plan.texts_of(shard)) == expected
