"""`energylens repair` on a small store: what is learned, stored and refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from energylens.db.layout import StoreLayout
from energylens.db.store import open_store
from energylens.db.verify import verify_store
from energylens.errors import UnknownNameError, UsageError
from energylens.ingest.index.build import build_indexes
from energylens.ingest.on_request.contamination import trained_on
from energylens.ingest.on_request.reopen import reopen
from energylens.ingest.on_request.repair import NOTHING, TOGETHER, repair
from energylens.ingest.on_request.repair_split import CONDITIONS, GLOBAL, TUNED, Wish
from energylens.ingest.on_request.stored_contexts import stored_contexts
from energylens.ingest.progress import Progress
from energylens.lens.gains import gain_change
from energylens.lens.repairing import Bench
from energylens.queries.catalog import open_catalog
from energylens.stats import efas
from energylens.stats.repairs import halvings, learn

WISH = Wish(top=5, by="attribution", step=0.3, n_splits=2, seed=0, tunes=False)


@pytest.fixture(scope="module")
def path(rich_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(rich_path, tmp_path_factory.mktemp("repair") / "x.lens"))


@pytest.fixture(scope="module")
def run_id(path: Path) -> str:
    with open_store(path) as store:
        return store.runs[0].info.run_id


def stored(path: Path, table: str) -> pl.DataFrame:
    with open_catalog(path) as store:
        return store.cursor().sql(f"FROM {table} ORDER BY ALL").pl()


def test_the_stored_attribution_is_what_a_repair_learns(path: Path, run_id: str) -> None:
    """Over all texts, minus dE/dgain is the column of `efas` with the whole gradient."""
    reopened = reopen(path, run_id)
    sae = reopened.sae("one")
    bench = Bench(reopened.model, sae, 2048, lambda n: None)
    with open_store(path) as store:
        con = store.cursor()
        query = "SELECT context_id, text_id FROM contexts ORDER BY context_id"
        text_of = dict(con.execute(query).fetchall())
        query = (
            "FROM efas SELECT attribution, t_efas WHERE variant = $variant AND sae_id = 'one' "
            "ORDER BY feature_id"
        )
        known, lens = (
            con.sql(query, params={"variant": variant}).pl() for variant in ("total", "lens")
        )
        contexts = stored_contexts(store, reopened.run, list(text_of))
    part = bench.part(contexts, list(text_of.values()))
    found = learn(bench.text_sums(part, 40), sae.write_directions.double().numpy())
    assert np.abs(known["attribution"].to_numpy()).max() > 1e-3
    assert np.allclose(found.attribution, known["attribution"].to_numpy(), atol=1e-6)
    assert found.t_efas_lens is not None
    for mine, theirs in ((found.t_efas, known), (found.t_efas_lens, lens)):
        t = theirs["t_efas"].to_numpy()
        assert np.allclose(mine[found.tested], t[found.tested], rtol=1e-3, atol=1e-4)


def test_a_repair_is_stored_and_judged_on_the_other_half(path: Path, run_id: str) -> None:
    before = stored(path, "features")
    found = repair(path, run_id, "one", replace(WISH, tunes=True), 400, Progress())
    assert set(found.rows["condition"]) == set(CONDITIONS)
    assert stored(path, "repairs").equals(stored(path, "repairs").select(found.rows.columns))
    assert stored(path, "repairs").height == found.rows.height
    nothing = found.rows.filter(against=NOTHING)
    assert nothing.height == 3 * len(CONDITIONS)
    assert set(found.rows["contaminated"]) == {None}, "the SAE's record says nothing of texts"
    by_hand(path, run_id, found.rows)
    means = nothing.filter(pl.col("split") >= 0).group_by("condition").agg(pl.mean("change"))
    together = nothing.filter(split=TOGETHER).select("condition", both="change")
    joined = means.join(together, on="condition")
    assert (joined["change"] - joined["both"]).abs().max() < 1e-12  # type: ignore
    gains = stored(path, "repair_gains")
    assert gains["feature_id"].to_list() == list(found.gains.features)
    assert (gains["gain"] * gains["attribution"] > 0).all() and gains.height == 5
    assert verify_store(path) == []
    build_indexes(path, Progress(), run_id)
    assert stored(path, "repairs").height == found.rows.height, "a new index keeps it"
    assert stored(path, "features").equals(before)
    again = repair(path, run_id, "two", WISH, 400, Progress())
    assert set(again.rows["condition"]) == set(CONDITIONS) - set(TUNED)
    assert stored(path, "repairs").height == found.rows.height + again.rows.height
    layout = StoreLayout(path).run(run_id)
    (file,) = (layout.measured / "repairs").glob("one*")
    whole = file.read_bytes()
    file.write_bytes(whole[:-8])
    assert any("repairs" in problem.where for problem in verify_store(path))
    file.write_bytes(whole)


def by_hand(path: Path, run_id: str, rows: pl.DataFrame) -> None:
    """The asked gains of the first split, judged by the mean of the model's own energies."""
    reopened = reopen(path, run_id)
    bench = Bench(reopened.model, reopened.sae("one"), 2048, lambda n: None)
    with open_store(path) as store:
        query = (
            "SELECT context_id, c.text_id, t.energy, t.is_special FROM tokens AS t "
            "JOIN contexts AS c USING (context_id) ORDER BY t.token_index"
        )
        tokens = store.cursor().sql(query).pl().drop_nulls("energy").filter(~pl.col("is_special"))
        judges = np.flatnonzero(~halvings(40, 2, 0)[0])
        own = tokens.filter(pl.col("text_id").is_in(judges.tolist()))
        contexts = stored_contexts(store, reopened.run, own["context_id"].unique().to_list())
    part = bench.part(contexts, [0] * len(contexts))
    first = rows.filter(split=0, against=NOTHING)
    clean = first.filter(condition="by attribution")
    assert clean["n_tokens"].item() == own.height == part.n_tokens
    assert clean["energy"].item() - clean["change"].item() == pytest.approx(
        own["energy"].mean(), abs=1e-5
    )
    gains = stored(path, "repair_gains")
    dense = np.zeros(48, dtype=np.float32)
    dense[gains["feature_id"].to_numpy()] = gains["gain"].to_numpy()
    change = gain_change(bench.sae, torch.from_numpy(dense))
    assert bench.energies(part, change).mean() == pytest.approx(clean["energy"].item(), abs=1e-5)
    beyond = rows.filter(split=0, condition="by attribution", against=GLOBAL)["change"].item()
    whole = first.filter(condition=GLOBAL)["change"].item()
    assert beyond == pytest.approx(clean["change"].item() - whole, abs=1e-9)


def test_what_cannot_be_repaired_is_said(
    path: Path, run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="at least 10 each; here are 19 texts"):
        repair(path, run_id, "one", WISH, 19, Progress())
    with pytest.raises(UnknownNameError, match="no category 'c'; there are: a, b"):
        repair(path, run_id, "one", WISH, 400, Progress(), category="c")
    with pytest.raises(UsageError, match="here are 16 texts"):
        repair(path, run_id, "one", WISH, 400, Progress(), category="a")
    with pytest.raises(UsageError, match="--by knows attribution, efas"):
        repair(path, run_id, "one", replace(WISH, by="luck"), 400, Progress())
    monkeypatch.setattr(efas, "MIN_TOKENS", 10_000)
    with pytest.raises(UsageError, match="active on 30 tokens in 10 texts of a half"):
        repair(path, run_id, "one", WISH, 20, Progress())


def test_texts_that_an_sae_was_trained_on_are_counted(
    path: Path, run_id: str, tmp_path: Path
) -> None:
    sae = reopen(path, run_id).sae("one")
    with open_store(path) as store:
        run = store.run(run_id).info
        texts = [row[0] for row in store.cursor().execute("SELECT text FROM texts").fetchall()]
        (tmp_path / "some").mkdir()
        for number, text in enumerate([*texts[:3], "another text"]):
            (tmp_path / "some" / f"{number}.txt").write_text(text)
        assert trained_on(store, run, sae) is None
        assert trained_on(store, run, sae, str(tmp_path / "some")) == 3
        metadata = sae.module.cfg.metadata
        for said, expected in (
            ({"texts": run.texts}, 40),
            ({"texts": "elsewhere", "texts_sha256": run.texts_sha256}, 40),
            ({"texts": "builtin:categories", "texts_sha256": None}, 0),
            ({"texts": str(tmp_path / "some")}, None),
            ({"texts": 7}, None),
        ):
            for key, value in said.items():
                metadata[key] = value
            assert trained_on(store, run, sae) == expected, said
