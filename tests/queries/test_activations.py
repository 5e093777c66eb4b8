"""What is said of kept activations against numpy over the vectors themselves."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from energylens.cli import app
from energylens.db.index_files import index_state
from energylens.db.layout import StoreLayout
from energylens.db.merge import merge_stores
from energylens.db.store import open_store
from energylens.db.verify import verify_store
from energylens.ingest import measure, run
from energylens.ingest.corpus import Context
from energylens.ingest.measure import Instruments, Measured
from energylens.ingest.on_request import additions
from energylens.ingest.on_request.additions import add_vectors
from energylens.ingest.plan import IngestConfig
from energylens.ingest.progress import Progress
from energylens.queries.activations import activation_statistics
from tests.conftest import make_store

HOOK = "blocks.1.hook_resid_post"
D_IN = 24
SINK, NO_NUMBER = 35, 37
"""A token of a text with a long vector, and one without numbers."""


def planted(token_index: np.ndarray) -> np.ndarray:
    """float32 [n, D_IN]: about a mean, two dimensions far larger than the rest."""
    rows = [np.random.default_rng(int(t)).normal(0.5, 1.0, D_IN) for t in token_index]
    x = np.stack(rows).astype(np.float32)
    x[:, 5] += 30
    x[:, 17] *= 12
    x[token_index == SINK] *= 40
    x[token_index == NO_NUMBER] = np.nan
    return x


@pytest.fixture(autouse=True)
def plant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model that is measured has these activations."""

    def measured(instruments: Instruments, contexts: Sequence[Context]) -> Measured:
        found = measure.measure(instruments, contexts)
        index = np.concatenate([c.context_id * 16 + np.arange(len(c.ids)) for c in contexts])
        vectors = {hook: planted(index) for hook in found.activations}
        return replace(found, activations=vectors)

    monkeypatch.setattr(run, "measure", measured)
    monkeypatch.setattr(additions, "measure", measured)


@pytest.fixture
def kept(config: IngestConfig) -> IngestConfig:
    return replace(config, keep=("activations",), n_ctx=16)


def statistics(path: Path) -> dict[str, Any]:
    with open_store(path) as store:
        run_id = store.runs[0].info.run_id
        (found,) = [one for one in activation_statistics(store, run_id) if one["hook_name"] == HOOK]
    return found


def by_numpy(path: Path) -> dict[str, Any]:
    with open_store(path) as store:
        tokens = pl.DataFrame(
            store.cursor().sql("FROM tokens ORDER BY token_index").to_arrow_table()
        )
    index = tokens["token_index"].to_numpy()
    left_out = (tokens["is_special"] | (tokens["pos"] == 0)).to_numpy()
    x = planted(index).astype(np.float64)
    norm = np.linalg.norm(x, axis=1)
    text = ~left_out & np.isfinite(norm)
    assert text[index == SINK].all() and not text[index == NO_NUMBER].any()
    rms = np.sqrt(np.square(x[text]).mean(0))
    assert set(np.flatnonzero(rms > 6 * np.median(rms))) == {5, 17}
    return {
        "d_in": D_IN,
        "n_tokens": text.sum(),
        "mean_norm": norm[text].mean(),
        "median_norm": np.median(norm[text]),
        "norm_of_mean": np.linalg.norm(x[text].mean(0)),
        "variance": x[text].var(0).sum(),
        "max_norm": norm[text].max(),
        "max_ratio": norm[text].max() / np.median(norm[text]),
        "max_token": SINK,
        "share_sinks": 1 / text.sum(),
        "n_left_out": left_out.sum(),
        "max_norm_left_out": norm[left_out].max(),
        "median_rms": np.median(rms),
        "outlier_dimensions": [
            {
                "dimension": i,
                "mean": x[text, i].mean(),
                "rms": rms[i],
                "ratio": rms[i] / np.median(rms),
            }
            for i in sorted((5, 17), key=lambda i: -rms[i])
        ],
    }


def check(path: Path) -> None:
    agree(statistics(path), by_numpy(path))


def agree(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Assert that two statistics of the hook are the same."""
    named = {"hook_name", "outlier_dimensions"}
    assert found["hook_name"] == HOOK
    numbers = [{k: v for k, v in one.items() if k not in named} for one in (found, expected)]
    assert numbers[0] == pytest.approx(numbers[1], rel=1e-5)
    for one, other in zip(found["outlier_dimensions"], expected["outlier_dimensions"], strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_of_one_shard(tmp_path: Path, kept: IngestConfig) -> None:
    make_store(tmp_path / "one.lens", kept, with_index=False)
    check(tmp_path / "one.lens")


@pytest.mark.usefixtures("small_shards")
def test_of_several_shards_of_several_blocks_also_when_merged(
    tmp_path: Path, kept: IngestConfig
) -> None:
    path = tmp_path / "several.lens"
    run_id = make_store(path, replace(kept, prepend_bos=False), with_index=False)
    assert len(StoreLayout(path).run(run_id).complete_shards()) > 2
    check(path)
    merge_stores(tmp_path / "merged.lens", [path])
    check(tmp_path / "merged.lens")


@pytest.mark.usefixtures("small_shards")
def test_of_activations_that_are_added_later(tmp_path: Path, config: IngestConfig) -> None:
    path = tmp_path / "later.lens"
    run_id = make_store(path, replace(config, n_ctx=16))
    with open_store(path) as store:
        assert activation_statistics(store, run_id) == []
    add_vectors(path, run_id, "activations", HOOK, Progress())
    check(path)
    assert index_state(StoreLayout(path).run(run_id)) == "fresh", "no index reads them"
    assert verify_store(path) == []


def test_info_shows_them(tmp_path: Path, kept: IngestConfig) -> None:
    path = tmp_path / "one.lens"
    make_store(path, kept, with_index=False)
    shown = CliRunner().invoke(app, ["info", str(path)], env={"COLUMNS": "200"}).stdout
    known = by_numpy(path)
    assert f"activations at {HOOK}: {known['n_tokens']:,} tokens x 24" in shown
    assert f"median {known['median_norm']:.4g}, largest {known['max_norm']:.4g}" in shown
    first, second = known["outlier_dimensions"]
    assert f"outlier dimensions: {first['dimension']} (rms {first['rms']:.3g}, " in shown
    assert f"medians), {second['dimension']} (rms {second['rms']:.3g}, " in shown
    line = CliRunner().invoke(app, ["info", str(path), "--json"]).stdout
    (told,) = pl.read_ndjson(line.encode())["activations"].to_list()
    (one,) = [hook for hook in told if hook["hook_name"] == HOOK]
    agree(one, known)
