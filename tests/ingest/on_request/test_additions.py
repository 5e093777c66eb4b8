"""What is added to a finished run equals what an ingest would have kept."""

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from energylens.db.index_files import index_state
from energylens.db.layout import StoreLayout
from energylens.db.store import open_store
from energylens.db.verify import verify_store
from energylens.errors import CheckRefusedError, UsageError
from energylens.ingest.index.build import build_indexes
from energylens.ingest.on_request import causality
from energylens.ingest.on_request.additions import add_sae, add_vectors
from energylens.ingest.on_request.causality import agreements, measure_effects
from energylens.ingest.plan import IngestConfig
from energylens.ingest.progress import Progress
from tests.conftest import make_sae, make_store

HOOK = "blocks.1.hook_resid_post"


@pytest.fixture(scope="module")
def sae_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("more") / "later"
    make_sae("jumprelu", HOOK, d_sae=48).save_model(folder)
    return folder


def read(path: Path, table: str, run_id: str, *order: str) -> pl.DataFrame:
    with open_store(path) as store:
        found = store.cursor().sql(f"FROM {table} WHERE run_id = $run", params={"run": run_id})
        return pl.DataFrame(found.to_arrow_table()).drop("run_id").sort(order)


@pytest.mark.usefixtures("small_shards")
def test_vectors_and_an_sae_equal_those_of_an_ingest(
    tmp_path: Path, config: IngestConfig, sae_dir: Path
) -> None:
    plain = make_store(tmp_path / "x.lens", config)
    whole = make_store(
        tmp_path / "whole.lens",
        replace(config, saes=(*config.saes, str(sae_dir)), keep=("activations", "gradients")),
        with_index=False,
    )
    path, layout = tmp_path / "x.lens", StoreLayout(tmp_path / "x.lens").run(plain)
    n_shards = len(layout.complete_shards())
    assert n_shards > 2
    for what in ("activations", "gradients"):
        assert add_vectors(path, plain, what, HOOK, Progress()) == n_shards
        assert add_vectors(path, plain, what, HOOK, Progress()) == 0
    assert index_state(layout) == "fresh", "no index reads kept vectors"
    for table, column in (("activations", "activation"), ("energy_gradients", "gradient")):
        mine = read(path, table, plain, "token_index")
        theirs = read(tmp_path / "whole.lens", table, whole, "token_index").filter(
            pl.col("hook_name") == HOOK
        )
        assert mine["token_index"].equals(theirs["token_index"])
        a, b = (f[column].list.to_array(24).to_numpy() for f in (mine, theirs))
        assert abs(a - b)[~pl.Series(mine[column].is_null()).to_numpy()].max() < 1e-5
    assert add_sae(path, plain, str(sae_dir), False, Progress()) == ("later", n_shards)
    assert index_state(layout) == "stale"
    keys = ("sae_id", "token_index", "feature_id")
    mine = read(path, "codes", plain, *keys).filter(pl.col("sae_id") == "later")
    theirs = read(tmp_path / "whole.lens", "codes", whole, *keys).filter(
        pl.col("sae_id") == "later"
    )
    assert mine.select(keys).equals(theirs.select(keys))
    for column in ("activation", "g_lens"):
        assert mine[column].is_null().equals(theirs[column].is_null())
        assert (mine[column] - theirs[column]).abs().max() < 1e-4  # type: ignore
    build_indexes(path, Progress())
    assert verify_store(path) == []
    with open_store(path) as store:
        state = store.run(plain)
        assert state.n_complete == state.info.n_shards == n_shards
        (gate,) = [s for s in state.info.saes if s.sae_id == "later"]
        assert gate.gate.startswith("passed") and gate.fvu is not None and gate.fvu < 0.1
    features = read(path, "features", plain, "sae_id", "feature_id")
    assert features.filter(pl.col("sae_id") == "later").height == 48


@pytest.mark.usefixtures("small_shards")
def test_only_missing_shards_are_made(tmp_path: Path, config: IngestConfig) -> None:
    path = tmp_path / "x.lens"
    run_id = make_store(path, config, with_index=False)
    layout = StoreLayout(path).run(run_id)
    n_shards = len(layout.complete_shards())
    add_vectors(path, run_id, "activations", HOOK, Progress())
    before = read(path, "activations", run_id, "token_index")
    shutil.rmtree(layout.shard(n_shards + 1))
    assert add_vectors(path, run_id, "activations", HOOK, Progress()) == 1
    assert read(path, "activations", run_id, "token_index").equals(before)


def test_what_cannot_be_added_says_what_to_do(
    tmp_path: Path, config: IngestConfig, saes_dir: Path, sae_dir: Path
) -> None:
    path = tmp_path / "x.lens"
    run_id = make_store(path, config, with_index=False)
    with pytest.raises(UsageError, match="--keep activations --hook blocks"):
        add_sae(path, run_id, str(sae_dir), False, Progress())
    add_vectors(path, run_id, "activations", HOOK, Progress())
    record = StoreLayout(path).run(run_id).run_json.read_bytes()
    assert add_sae(path, run_id, str(saes_dir / "resid"), False, Progress()) == ("resid", 0)
    assert StoreLayout(path).run(run_id).run_json.read_bytes() == record, "it is there already"
    with pytest.raises(UsageError, match="holds 2 SAEs"):
        add_sae(path, run_id, str(saes_dir), False, Progress())
    bad = make_sae("standard", HOOK, d_sae=48)
    bad.W_dec.data.zero_()
    bad.save_model(tmp_path / "bad")
    with pytest.raises(CheckRefusedError, match="--accept-gate"):
        add_sae(path, run_id, str(tmp_path / "bad"), False, Progress())
    with pytest.raises(UsageError, match="activations and gradients"):
        add_vectors(path, run_id, "codes", HOOK, Progress())
    assert verify_store(path) == []


def test_measured_effects_are_stored_beside_the_rest_of_the_index(
    tmp_path: Path, rich_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of random weights and forty short texts have no discovery at q < 0.05."""
    monkeypatch.setattr(causality, "SIGNIFICANT", 0.5)
    path = tmp_path / "rich.lens"
    shutil.copytree(rich_path, path)
    with open_store(path) as store:
        run_id = store.runs[0].info.run_id
    before = read(path, "features", run_id, "sae_id", "feature_id")
    found = measure_effects(path, run_id, "two", 3, 4, 0, Progress())
    assert found.height >= 6 and set(found["energy"]) == {"lens", "total"}
    stored = read(path, "feature_effects", run_id, "energy", "feature_id")
    assert stored.equals(found.drop("run_id"))
    assert read(path, "features", run_id, "sae_id", "feature_id").equals(before)
    fits = read(path, "effect_agreements", run_id, "energy", "features", "prediction")
    assert fits.height == 2 * 3 * 4
    assert fits.filter(pl.col("prediction") == "efas")["slope"].is_null().all()
    build_indexes(path, Progress(), run_id)
    assert read(path, "feature_effects", run_id, "energy", "feature_id").equals(stored), "kept"
    again = measure_effects(path, run_id, "two", 2, 4, 1, Progress())
    assert read(path, "feature_effects", run_id, "energy").height == again.height
    summary = {(e, g, p): a for e, g, p, a in agreements(found)}
    assert summary["lens", "all", "trapezoid"].correlation > 0.99
    assert verify_store(path) == []
