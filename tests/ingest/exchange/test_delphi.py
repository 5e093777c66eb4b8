"""delphi's latent cache, read as delphi reads it, against the codes of the store."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from safetensors.numpy import load_file

from energylens.db.store import Store
from energylens.errors import UnknownNameError, UsageError
from energylens.ingest.exchange.delphi import export_delphi
from energylens.ingest.progress import Progress

HOOK = "blocks.0.hook_resid_post"


def loaded(folder: Path) -> tuple[pl.DataFrame, np.ndarray]:
    """All files of a hook as delphi's buffers have them, and the tokens."""
    parts, tokens = [], None
    for file in sorted(folder.glob("*.safetensors"), key=lambda f: int(f.stem.split("_")[0])):
        first, last = map(int, file.stem.split("_"))
        found = load_file(file)
        where = found["locations"].astype(np.int64)
        assert where.shape == (len(found["activations"]), 3)
        assert not len(where) or 0 <= where[:, 2].min() <= where[:, 2].max() <= last - first
        feature = where[:, 2] + first
        parts.append(
            pl.DataFrame(
                {"context": where[:, 0], "pos": where[:, 1], "feature_id": feature}
                | {"activation": found["activations"].astype(np.float64)}
            )
        )
        assert tokens is None or np.array_equal(tokens, found["tokens"])
        tokens = found["tokens"]
    assert tokens is not None
    return pl.concat(parts), tokens


def stored(store: Store, sae: str) -> pl.DataFrame:
    n_ctx = store.infos[0].n_ctx
    sql = (
        f"SELECT token_index // {n_ctx} AS context, token_index % {n_ctx} AS pos, "
        f"feature_id::BIGINT AS feature_id, activation FROM codes WHERE sae_id = '{sae}'"
    )
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


@pytest.mark.parametrize("n_splits", [1, 5, 48])
def test_what_delphi_reads_is_what_the_store_has(
    rich: Store, tmp_path: Path, n_splits: int
) -> None:
    run = rich.infos[0]
    written = export_delphi(rich, run.run_id, "one", tmp_path / "latents", n_splits, Progress())
    assert [p.name for p in (tmp_path / "latents").iterdir()] == [HOOK]
    found, tokens = loaded(tmp_path / "latents" / HOOK)
    mine = stored(rich, "one")
    kept = mine.filter(pl.col("activation").abs() > 1e-5)
    assert (written.n_files, written.n_activations) == (n_splits, len(kept)) and len(kept) > 0
    assert written.n_left_out == len(mine) - len(kept) and written.n_infinite == 0
    keys = ["context", "pos", "feature_id"]
    both = found.join(kept, on=keys, how="full", suffix="_mine")
    assert len(both) == len(found) == len(kept)
    exact = both["activation_mine"].cast(pl.Float64).to_numpy()
    assert np.array_equal(both["activation"].to_numpy(), exact.astype(np.float16))
    error = float(np.abs(both["activation"].to_numpy() / exact - 1).max())
    assert written.largest_error == pytest.approx(error, rel=1e-6) and error < 1e-3
    ids = rich.cursor().sql("SELECT context_id, pos, vocab_id FROM tokens").fetchall()
    assert tokens.shape == (run.n_contexts, run.n_ctx) and tokens.dtype == np.int64
    assert all(tokens[context, pos] == token for context, pos, token in ids)
    assert tokens.sum() == sum(token for _, _, token in ids), "nothing but zeros beside them"
    config = json.loads((tmp_path / "latents" / HOOK / "config.json").read_text("utf-8"))
    assert config["ctx_len"] == config["cache_ctx_len"] == tokens.shape[1]
    assert config["model_name"] == run.model and config["n_splits"] == n_splits


def test_the_files_share_the_features_as_delphi_shares_them(rich: Store, tmp_path: Path) -> None:
    export_delphi(rich, rich.infos[0].run_id, "one", tmp_path / "latents", 5, Progress())
    names = sorted(p.stem for p in (tmp_path / "latents" / HOOK).glob("*.safetensors"))
    assert names == sorted(["0_8", "9_18", "19_27", "28_37", "38_47"])  # torch.linspace(0, 48, 6)


def test_the_same_run_gives_the_same_bytes(rich: Store, tmp_path: Path) -> None:
    for name in ("a", "b"):
        export_delphi(rich, rich.infos[0].run_id, "mlp", tmp_path / name, 3, Progress())
    files = [sorted(p for p in (tmp_path / name).rglob("*") if p.is_file()) for name in ("a", "b")]
    assert len(files[0]) == 4
    assert [p.read_bytes() for p in files[0]] == [p.read_bytes() for p in files[1]]


def test_many_contexts_take_wider_numbers_and_large_values_are_counted(
    rich: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pl.DataFrame(
        {"token_index": [3, 70_000 * 16], "feature_id": [1, 2], "activation": [1e5, 2.0]},
        schema={"token_index": pl.Int64, "feature_id": pl.Int32, "activation": pl.Float32},
    )
    info = rich.infos[0]
    sql = (
        f"SELECT token_index * {info.n_ctx} // 16 AS token_index, feature_id, activation FROM rows"
    )
    asked = f"SELECT * FROM ({sql}) WHERE feature_id BETWEEN $first AND $last AND $run != $sae"
    con = rich.cursor()
    con.register("rows", rows.to_arrow())
    monkeypatch.setattr("energylens.ingest.exchange.delphi._CODES", asked)
    monkeypatch.setattr(type(rich), "cursor", lambda _: con)
    written = export_delphi(rich, info.run_id, "one", tmp_path / "latents", 1, Progress())
    found = load_file(tmp_path / "latents" / HOOK / "0_47.safetensors")
    assert found["locations"].dtype == np.uint32 and found["locations"][1, 0] == 70_000
    assert written.n_infinite == 1 and "1 are beyond it (infinite)" in written.lost


def test_wrong_use_is_told(rich: Store, tmp_path: Path) -> None:
    run = rich.infos[0].run_id
    with pytest.raises(UsageError, match="1 to 48 files, not 49"):
        export_delphi(rich, run, "one", tmp_path / "latents", 49, Progress())
    with pytest.raises(UnknownNameError, match="has no SAE"):
        export_delphi(rich, run, "nine", tmp_path / "latents", 1, Progress())
    with pytest.raises(UsageError, match="is there already"):
        export_delphi(rich, run, "one", tmp_path, 1, Progress())
