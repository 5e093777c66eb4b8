"""Heads over a run: rows that outlive the index, against a pass by hand and counts of the texts."""

import errno
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from transformers import MambaConfig, MambaForCausalLM

from energylens.db.change import change_run
from energylens.db.layout import StoreLayout
from energylens.db.store import Store
from energylens.db.verify import verify_store
from energylens.errors import ModelError, StoreError, UsageError
from energylens.ingest.on_request.heads import measure_heads
from energylens.ingest.plan import IngestConfig
from energylens.ingest.progress import Progress
from energylens.lens.circuits.products import copying
from energylens.lens.circuits.skip_trigrams import skip_trigrams
from energylens.lens.circuits.weights import read_heads
from energylens.lens.models import LanguageModel, read_hooks
from energylens.queries.catalog import open_catalog
from energylens.queries.heads import (
    bigram_agreement,
    composed_heads,
    copying_heads,
    head_ranking,
    head_skip_trigrams,
)
from tests.cli.test_cli import run
from tests.conftest import D_MODEL, VOCAB, make_store


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, store_path: Path) -> Path:
    path = tmp_path_factory.mktemp("heads") / "x.lens"
    shutil.copytree(store_path, path)
    measure_heads(path, StoreLayout(path).runs()[0].root.name, 4, Progress())
    return path


def test_scores_are_those_of_the_texts(measured: Path, gpt2: LanguageModel) -> None:
    with open_catalog(measured) as store:
        run = store.runs[0].info
        tokens = frame(store, "SELECT * FROM tokens ORDER BY token_index")
        found = head_ranking(store, run.run_id, "previous_token")
    assert found["previous_token"].is_sorted(descending=True) and len(found) == 6
    total, first = torch.zeros(3, 2), torch.zeros(3, 2)
    for _, rows in tokens.group_by("context_id", maintain_order=True):
        ids = torch.tensor([rows["vocab_id"].to_list()])
        names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(3)]
        cache = read_hooks(gpt2, ids, names)
        for layer, name in enumerate(names):
            total[layer] += cache[name][0].diagonal(-1, 1, 2).sum(1)
            first[layer] += cache[name][0, :, 1:, 0].sum(1)
    n = len(tokens.filter(pl.col("pos") > 0))
    assert found["n_tokens"].unique().to_list() == [n]
    for row in found.iter_rows(named=True):
        at = row["layer"], row["head"]
        assert row["previous_token"] == pytest.approx(float(total[at]) / n, rel=1e-5)
        assert row["first_token"] == pytest.approx(float(first[at]) / n, rel=1e-5)


def test_weights_are_read_beside_them(measured: Path, gpt2: LanguageModel) -> None:
    weights = read_heads(gpt2)
    expected = copying(weights)
    with open_catalog(measured) as store:
        run = store.runs[0].info.run_id
        found = frame(store, "SELECT * FROM heads ORDER BY layer, head")
        np.testing.assert_allclose(found["copying"], expected.scores.flatten(), rtol=1e-5)
        copies = [c for c in expected.scores.flatten().tolist() if c > expected.random_high]
        assert copying_heads(store, run)["copying"].to_list() == pytest.approx(
            sorted(copies, reverse=True)
        )
        used = frame(store, "SELECT DISTINCT vocab_id FROM tokens WHERE NOT is_special")
        ids = torch.tensor(sorted(used["vocab_id"].to_list()))
        best = skip_trigrams(weights, 2, 1, ids, 4)
        rows = frame(
            store, "SELECT * FROM skip_trigrams WHERE layer = 2 AND head = 1 ORDER BY rank"
        )
        assert rows["out_id"].to_list() == [one.out for one in best]
        assert rows["strength"].to_list() == pytest.approx([one.strength for one in best])
        assert len(head_skip_trigrams(store, run, 2, 1, 3)) == 3
        assert len(frame(store, "FROM head_compositions")) == 3 * (2 * 4 + 2 * 2)
        assert composed_heads(store, run)["composition"].is_sorted(descending=True)


def test_bigrams_are_counted_in_the_texts(measured: Path) -> None:
    with open_catalog(measured) as store:
        run = store.runs[0].info.run_id
        tokens = frame(store, "SELECT * FROM tokens JOIN contexts USING (run_id, context_id)")
        rows = frame(store, "FROM bigrams")
        agreement = bigram_agreement(store, run)
    counts: Counter[tuple[int, int]] = Counter()
    for _, text in tokens.filter(~pl.col("is_special")).sort("token_index").group_by("text_id"):
        ids = text["vocab_id"].to_list()
        counts.update(pairwise(ids))
    for row in rows.iter_rows(named=True):
        assert row["n_pair"] == counts[row["vocab_id"], row["next_id"]]
    listed = {(row["vocab_id"], row["next_id"]) for row in rows.iter_rows(named=True)}
    right = sum(n for pair, n in counts.items() if pair in listed)
    assert agreement["n_pairs"][0] == counts.total()
    assert agreement["agreement"][0] == pytest.approx(right / counts.total())
    commonest = Counter(tokens.filter(~pl.col("is_special"))["vocab_id"].to_list())
    ten = sum(sorted(commonest.values(), reverse=True)[:10]) / commonest.total()
    assert agreement["commonest"][0] == pytest.approx(ten)


def test_rows_outlive_the_index_and_are_replaced(measured: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.lens"
    shutil.copytree(measured, path)
    run = StoreLayout(path).runs()[0].root.name
    with open_catalog(path) as store:
        before = frame(store, "FROM head_pairs ORDER BY ALL")
    shutil.rmtree(StoreLayout(path).run(run).index)
    with open_catalog(path) as store:
        assert frame(store, "FROM head_pairs ORDER BY ALL").equals(before)
    measure_heads(path, run, 2, Progress())
    assert not verify_store(path)
    with open_catalog(path) as store:
        again = frame(store, "FROM head_pairs ORDER BY ALL")
    assert again.equals(before.filter(pl.col("rank") < 2)), "a smaller list is its beginning"


def test_a_store_that_cannot_be_written_is_told_before_the_model_runs(
    measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Path, *given: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    def loads(*given: object) -> None:
        raise AssertionError("nothing is to be loaded")

    monkeypatch.setattr(os, "open", closed)
    monkeypatch.setattr("energylens.ingest.on_request.heads.reopen_texts", loads)
    with pytest.raises(StoreError, match=r"Read-only file system.* take the write protection off"):
        measure_heads(measured, StoreLayout(measured).runs()[0].root.name, 2, Progress())


def test_what_was_asked_of_a_run_has_no_heads_of_its_own(measured: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.lens"
    shutil.copytree(measured, path)
    (run,) = StoreLayout(path).runs()
    change_run(run, lambda info: replace(info, base_run="first"))
    with pytest.raises(UsageError, match="asked of the run 'first': measure the heads of that"):
        measure_heads(path, run.root.name, 2, Progress())


def test_texts_of_single_tokens_are_refused(tmp_path: Path, gpt2_dir: Path) -> None:
    (tmp_path / "texts.txt").write_text("x")
    asked = IngestConfig(
        model=str(gpt2_dir), texts=str(tmp_path / "texts.txt"), energies="output", n_ctx=16
    )
    run = make_store(tmp_path / "x.lens", asked, with_index=False)
    with pytest.raises(UsageError, match="no text of the run has two tokens"):
        measure_heads(tmp_path / "x.lens", run, 3, Progress())


def test_a_model_without_attention_is_refused(
    tmp_path: Path, texts_dir: Path, save_model: Callable[..., Path]
) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(
        vocab_size=300, hidden_size=24, num_hidden_layers=2, state_size=4, bos_token_id=0,
        eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    model = save_model(MambaForCausalLM(config))
    asked = IngestConfig(model=str(model), texts=str(texts_dir), energies="output", n_ctx=16)
    run = make_store(tmp_path / "x.lens", asked, with_index=False)
    with pytest.raises(ModelError, match=r"heads of the Mamba.* has no attention"):
        measure_heads(tmp_path / "x.lens", run, 3, Progress())


def test_a_model_without_attention_is_refused_and_its_store_left(
    save_model: Callable[..., Path], config: IngestConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    small = MambaConfig(
        vocab_size=VOCAB, hidden_size=D_MODEL, num_hidden_layers=2, state_size=4, bos_token_id=0,
        eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    path, model = tmp_path / "x.lens", save_model(MambaForCausalLM(small))
    make_store(path, replace(config, model=str(model), saes=()))
    before = {p: p.read_bytes() for p in path.rglob("*") if p.is_file()}
    said = run("heads", path, code=2).stderr.splitlines()[-1]
    assert said.startswith("energylens: the heads of the MambaForCausalLM")
    assert "are not read: it has no attention; circuits are read from models whose" in said
    assert {p: p.read_bytes() for p in before} == before
