"""The index against numpy, row by row from the codes; rebuilt, stale, and without weights."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from energylens.db.index_files import index_state, replace_index
from energylens.db.layout import StoreLayout
from energylens.db.store import open_store
from energylens.errors import StoreBusyError, StoreError
from energylens.ingest.index import statistics
from energylens.ingest.index.build import build_indexes
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.lens.models import LanguageModel
from energylens.lens.saes import load_saes
from tests.conftest import make_sae, make_store


class Oracle:
    """Dense codes of one SAE, and what each token belongs to."""

    def __init__(self, path: Path, sae_id: str) -> None:
        with open_store(path) as store:
            con = store.cursor()

            def frame(sql: str) -> pl.DataFrame:
                return pl.DataFrame(con.sql(sql).to_arrow_table())

            tokens = frame(
                "SELECT t.*, c.text_id, x.category FROM tokens t JOIN contexts c USING "
                "(run_id, context_id) JOIN texts x USING (run_id, text_id) ORDER BY token_index"
            )
            codes = frame(f"SELECT * FROM codes WHERE sae_id = '{sae_id}'")
            self.features = frame(
                f"SELECT * FROM features WHERE sae_id = '{sae_id}' ORDER BY feature_id"
            )
            self.feature_texts = frame(f"SELECT * FROM feature_texts WHERE sae_id = '{sae_id}'")
            self.top = frame(
                f"SELECT * FROM top_contexts WHERE sae_id = '{sae_id}' ORDER BY feature_id, rank"
            )
        rows = {index: row for row, index in enumerate(tokens["token_index"].to_list())}
        self.z = np.zeros((len(tokens), len(self.features)), dtype=np.float64)
        for token_index, feature_id, activation in codes.select(
            "token_index", "feature_id", "activation"
        ).iter_rows():
            self.z[rows[token_index], feature_id] = activation
        self.tokens = tokens
        self.kept = ~tokens["is_masked"].to_numpy()


@pytest.mark.parametrize("sae_id", ["resid", "mlp"])
def test_statistics_equal_numpy(store_path: Path, sae_id: str) -> None:
    oracle = Oracle(store_path, sae_id)
    z, categories = oracle.z[oracle.kept], oracle.tokens["category"].to_numpy()[oracle.kept]
    texts = oracle.tokens["text_id"].to_numpy()[oracle.kept]
    names = sorted(set(categories))
    checked = 0
    for row in oracle.features.iter_rows(named=True):
        column = z[:, row["feature_id"]]
        active = column[column != 0]
        assert row["n_active"] == len(active)
        assert row["n_active_unmasked"] == (oracle.z[:, row["feature_id"]] != 0).sum()
        assert row["density"] == pytest.approx(len(active) / len(column))
        assert row["n_texts"] == len(set(texts[column != 0]))
        if not len(active):
            assert row["max_activation"] is None and row["histogram"] is None
            assert row["selectivity"] is None
            continue
        checked += 1
        assert row["max_activation"] == pytest.approx(active.max())
        assert row["min_activation"] == pytest.approx(active.min())
        assert row["mean_activation"] == pytest.approx(active.mean())
        assert row["std_activation"] == pytest.approx(active.std(), abs=1e-9)
        assert row["score"] == pytest.approx(column.mean())
        np.testing.assert_allclose(
            row["quantiles"], np.quantile(active, [0.1, 0.25, 0.5, 0.75, 0.9, 0.99]), rtol=1e-5
        )
        assert sum(row["histogram"]) == len(active) and len(row["histogram"]) == 24
        if active.max() > active.min():
            expected = np.histogram(active, bins=24, range=(active.min(), active.max()))[0]
            assert np.abs(np.array(row["histogram"]) - expected).sum() <= 2  # ties at bin edges
        strength = np.array([np.abs(column[categories == name]).mean() for name in names])
        share = strength / strength.sum()
        entropy = -sum(s * math.log(s) for s in share if s > 0)
        assert row["top_category"] == names[int(share.argmax())]
        assert row["selectivity"] == pytest.approx(1 - entropy / math.log(len(names)), abs=1e-9)
    assert checked > 10


def test_text_means_are_over_real_tokens_of_the_text(store_path: Path) -> None:
    oracle = Oracle(store_path, "resid")
    z, texts = oracle.z[oracle.kept], oracle.tokens["text_id"].to_numpy()[oracle.kept]
    expected = {}
    for text_id in set(texts):
        inside = z[texts == text_id]
        for feature_id in np.flatnonzero((inside != 0).any(0)):
            column = inside[:, feature_id]
            expected[feature_id, text_id] = ((column != 0).sum(), column.mean(), column.max())
    found = {
        (row["feature_id"], row["text_id"]): row
        for row in oracle.feature_texts.iter_rows(named=True)
    }
    assert found.keys() == expected.keys()
    for key, (n, mean, top) in expected.items():
        assert found[key]["n_active"] == n
        assert found[key]["mean_activation"] == pytest.approx(mean, rel=1e-5)
        assert found[key]["max_activation"] == pytest.approx(top, rel=1e-5)


def test_top_contexts_are_the_strongest_peaks(store_path: Path) -> None:
    oracle = Oracle(store_path, "resid")
    contexts = oracle.tokens["context_id"].to_numpy()
    indices = oracle.tokens["token_index"].to_numpy()
    z = np.where(oracle.kept[:, None], oracle.z, 0.0)
    for feature_id in range(z.shape[1]):
        peaks = []
        for context_id in np.unique(contexts):
            inside = np.flatnonzero(contexts == context_id)
            best = inside[np.argmax(np.abs(z[inside, feature_id]))]
            if z[best, feature_id]:
                peaks.append((-abs(z[best, feature_id]), context_id, indices[best]))
        expected = [(c, t) for _, c, t in sorted(peaks)[: statistics.TOP_CONTEXTS]]
        found = oracle.top.filter(pl.col("feature_id") == feature_id)
        assert list(zip(found["context_id"], found["token_index"], strict=True)) == expected
        assert found["rank"].to_list() == list(range(len(expected)))


def test_feature_order_holds_the_same_codes_sorted(store_path: Path) -> None:
    with open_store(store_path) as store:
        con = store.cursor()
        different = con.sql(
            "(FROM codes SELECT run_id, sae_id, token_index, feature_id, activation EXCEPT ALL "
            "FROM feature_codes SELECT run_id, sae_id, token_index, feature_id, activation)"
        ).fetchall()
        counts = con.execute(
            "SELECT (SELECT count(*) FROM codes), (SELECT count(*) FROM feature_codes)"
        )
        n_codes, n_ordered = counts.fetchone() or (0, 1)
    assert different == [] and n_codes == n_ordered > 0
    for file in store_path.rglob("feature_codes/*.parquet"):
        frame = pl.read_parquet(file).select("feature_id", "token_index")
        assert frame.equals(frame.sort("feature_id", "token_index"))


def test_twenty_contexts_of_a_feature_are_kept(rich_path: Path) -> None:
    with open_store(rich_path) as store:
        con = store.cursor()
        kept = "SELECT feature_id, count(*) AS n FROM top_contexts WHERE sae_id = 'two' GROUP BY 1"
        there = "SELECT feature_id, n_texts FROM features WHERE sae_id = 'two' AND n_texts > 20"
        counts = dict(con.sql(kept).fetchall())
        busy = [feature_id for feature_id, _ in con.sql(there).fetchall()]
    assert len(busy) > 3 and {counts[feature_id] for feature_id in busy} == {20}


def test_small_ranges_of_features_change_nothing(
    store_path: Path, config: IngestConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statistics, "RANGE_CODES", 50)
    make_store(tmp_path / "x.lens", config)
    for table in ("features", "feature_texts", "top_contexts"):
        one, other = (
            pl.concat([pl.read_parquet(f) for f in sorted(path.rglob(f"{table}/*.parquet"))])
            for path in (store_path, tmp_path / "x.lens")
        )
        assert one.equals(other), table


def test_logit_weights_and_neighbours_come_from_the_decoder(
    store_path: Path, gpt2: LanguageModel, saes_dir: Path
) -> None:
    (sae,) = load_saes([str(saes_dir / "resid")])
    with open_store(store_path) as store:
        con = store.cursor()
        logits = con.sql(
            "SELECT * FROM feature_logits WHERE sae_id = 'resid' AND feature_id = 7"
        ).pl()
        near = con.sql(
            "SELECT * FROM feature_neighbours WHERE sae_id = 'resid' AND feature_id = 7"
        ).pl()
        spread = con.sql(
            "SELECT * FROM logit_distributions WHERE sae_id = 'resid' AND feature_id = 7"
        ).pl()
        norm = con.execute(
            "SELECT decoder_norm FROM features WHERE feature_id = 7 AND sae_id = 'resid'"
        )
        stored_norm = (norm.fetchone() or (0.0,))[0]
    d = sae.W_dec[7]
    assert stored_norm == pytest.approx(float(d.norm()))
    full = (d - d.mean()) @ (gpt2.readout.norm.gain[:, None] * gpt2.readout.W_U)
    full = full - full.mean()
    full[0] = -torch.inf  # BOS is special and left out
    top = logits.filter(pl.col("direction") == "top").sort("rank")
    assert top["vocab_id"].to_list() == full.topk(10).indices.tolist()
    np.testing.assert_allclose(top["logit_weight"], full.topk(10).values, rtol=1e-4, atol=1e-5)
    own = full[1:].double().numpy()
    for name, expected in (("lowest", own.min()), ("highest", own.max()), ("std", own.std())):
        assert spread[name][0] == pytest.approx(expected, rel=1e-4)
    assert spread["n_vocab"][0] == sum(spread["histogram"][0]) == len(own)
    assert near.sort("rank")["cosine"].is_sorted(descending=True)
    assert 7 not in near["neighbour_id"].to_list()


def test_an_index_is_stale_once_shards_are_added(
    config: IngestConfig, tmp_path: Path, small_shards: None
) -> None:
    path = tmp_path / "x.lens"
    prepared = prepare(path, load(config))
    layout = StoreLayout(path).run(prepared.run.run_id)
    assert index_state(layout) == "missing"
    ingest(prepared, Part(0, 2), Progress())
    assert build_indexes(path, Progress()) == [prepared.run.run_id]
    assert index_state(layout) == "fresh"
    assert build_indexes(path, Progress()) == []
    ingest(prepared, Part(1, 2), Progress())
    assert index_state(layout) == "stale"
    with open_store(path) as store:
        assert store.runs[0].index == "stale"
    build_indexes(path, Progress())
    assert index_state(layout) == "fresh"


def test_one_process_indexes_a_run_at_a_time_and_errors_keep_the_old_index(
    config: IngestConfig, tmp_path: Path
) -> None:
    path = tmp_path / "x.lens"
    run_id = make_store(path, config)
    layout = StoreLayout(path).run(run_id)
    before = (layout.index / "manifest.json").read_bytes()
    (layout.root / ".scratch-left").mkdir()
    with pytest.raises(ZeroDivisionError), replace_index(layout):
        with pytest.raises(StoreBusyError, match="is being written by process"):
            build_indexes(path, Progress(), run_id)
        raise ZeroDivisionError
    assert (layout.index / "manifest.json").read_bytes() == before
    build_indexes(path, Progress(), run_id)
    assert [p.name for p in layout.root.iterdir() if p.name.startswith(".scratch")] == []
    assert not (layout.root / ".index.partial").exists()


def test_weights_that_are_gone_leave_their_tables_as_they_were(
    config: IngestConfig, tmp_path: Path, capsys: Any
) -> None:
    make_sae("standard", "blocks.1.hook_resid_post", d_sae=48).save_model(tmp_path / "sae")
    path = tmp_path / "x.lens"
    run_id = make_store(path, replace(config, saes=(str(tmp_path / "sae"),)))
    before = {f.name: f.read_bytes() for f in path.rglob("feature_logits/*")}
    (tmp_path / "sae").rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="no run 'other'"):
        build_indexes(path, Progress(), "other")
    build_indexes(path, Progress(), run_id)
    assert {f.name: f.read_bytes() for f in path.rglob("feature_logits/*")} == before
    assert "are kept as they were" in capsys.readouterr().err
    with open_store(path) as store:
        norm = store.cursor().execute("SELECT count(decoder_norm) FROM features").fetchone()
    assert norm == (0,)
