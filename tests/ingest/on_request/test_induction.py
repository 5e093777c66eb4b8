"""A model that learned induction: the two heads that make it are found, by what they do over texts
and by their weights."""

from pathlib import Path

import numpy as np
import polars as pl
import torch

from energylens.db.store import Store
from energylens.ingest.on_request.heads import measure_heads
from energylens.ingest.plan import IngestConfig
from energylens.ingest.progress import Progress
from energylens.lens.batching import batch_of
from energylens.lens.circuits.patterns import read_patterns
from energylens.lens.circuits.products import compositions, copying
from energylens.lens.circuits.tally import HeadTally
from energylens.lens.circuits.weights import read_heads
from energylens.lens.models import load_model
from energylens.queries.catalog import open_catalog
from energylens.queries.heads import head_ranking, head_tokens
from tests.conftest import make_store

INDUCTION = Path(__file__).parents[2] / "lens" / "induction"


def _repeated(n: int) -> list[tuple[list[int], list[int]]]:
    """BOS and thirty words in a random order, twice."""
    found = []
    for seed in range(n):
        words = torch.randperm(63, generator=torch.Generator().manual_seed(seed))[:30] + 1
        ids = [0, *words.tolist(), *words.tolist()]
        found.append((ids, [*ids[1:], -1]))
    return found


def test_a_model_that_learned_induction_has_the_two_heads_that_make_it() -> None:
    model = load_model(str(INDUCTION))
    weights = read_heads(model)
    tally = HeadTally(weights, 1)
    batch = batch_of(_repeated(16))
    tally.begin(batch, range(16))
    read_patterns(model, weights, batch.ids, batch.mask, tally.layer)
    scores = tally.scores().scores
    induction, previous = scores["induction"], scores["previous_token"]
    assert float(induction[1].max()) >= 0.8 and float(induction[0].max()) <= 0.1
    assert float(previous[0].max()) >= 0.8
    first, second = int(previous[0].argmax()), int(induction[1].argmax())
    above = {one.how: one.scores - one.random for one in compositions(weights)}
    largest = max(float(scores[~scores.isnan()].max()) for scores in above.values())
    assert float(above["K"][0, first, 1, second]) == largest > 0.1
    assert float(copying(weights).scores[1, second]) > 0.9


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


def test_a_learned_induction_head_is_found_with_its_pairs(tmp_path: Path) -> None:
    lines = []
    for seed in range(6):
        words = np.random.default_rng(seed).permutation(63)[:30] + 1
        text = " ".join(f"w{word}" for word in [*words, *words])
        lines.append(f'{{"text": "{text}"}}\n')
    (tmp_path / "texts.jsonl").write_text("".join(lines))
    config = IngestConfig(
        model=str(INDUCTION), texts=str(tmp_path / "texts.jsonl"), energies="output", n_ctx=64,
        prepend_bos=True,
    )  # fmt: skip
    path = tmp_path / "x.lens"
    run = make_store(path, config, with_index=False)
    measure_heads(path, run, 6, Progress())
    with open_catalog(path) as store:
        best = head_ranking(store, run).row(0, named=True)
        assert best["layer"] == 1 and best["induction"] >= 0.8 > 0.1 > best["induction_uniform"]
        pairs = head_tokens(store, run, 1, best["head"])
        assert len(pairs) == 6
        tokens = frame(store, "SELECT token_index, vocab_id FROM tokens").rows()
        id_of = dict(tokens)
        again = pairs.filter(pl.col("token_index") % 64 > 30)  # before, there is nothing to find
        assert len(again) >= 3
        for row in again.iter_rows(named=True):
            assert id_of[row["source_index"] - 1] == id_of[row["token_index"]]
            before = row["text_before"].split()[-1]
            assert row["distance"] == 29 and before == f"w{id_of[row['token_index'] - 1]}"
