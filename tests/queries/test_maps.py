"""Maps and links across SAEs against scikit-learn, numpy and the tables they are read from."""

import numpy as np
import polars as pl
import pytest
from sklearn.decomposition import PCA

from energylens.db.provenance import SaeInfo
from energylens.db.store import Store
from energylens.ingest.index.readers import reader_of
from energylens.lens.saes import layer_of, load_saes
from energylens.queries.maps import linked_features, mapped_features
from energylens.stats.principal import principal_plane


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


def unit_of(directions: np.ndarray) -> np.ndarray:
    return directions / np.linalg.norm(directions, axis=1, keepdims=True)


@pytest.mark.parametrize("sae_id", ["one", "two", "mlp"])
def test_a_map_is_the_pca_of_the_directions(rich: Store, rich_run: str, sae_id: str) -> None:
    """scikit-learn's, up to the signs of the axes."""
    (known,) = [sae for sae in rich.run(rich_run).info.saes if sae.sae_id == sae_id]
    (sae,) = load_saes([known.source])
    unit = unit_of(sae.W_dec.detach().double().numpy())
    pca = PCA(2, svd_solver="full").fit(unit)
    rows = mapped_features(rich, rich_run, sae_id).sort("feature_id")
    assert rows["feature_id"].to_list() == list(range(known.d_sae))
    assert set(rows["method"]) == {"pca"}
    for axis, (place, share) in enumerate((("x", "x_share"), ("y", "y_share"))):
        own, other = rows[place].to_numpy(), pca.transform(unit)[:, axis]
        np.testing.assert_allclose(own, other * np.sign(own @ other), atol=1e-6)
        assert rows[share][0] == pytest.approx(pca.explained_variance_ratio_[axis], rel=1e-9)


def test_blocks_signs_and_directions_without_a_length(monkeypatch: pytest.MonkeyPatch) -> None:
    made = np.random.default_rng(0).standard_normal((50, 6))
    whole = principal_plane(made)
    monkeypatch.setattr("energylens.stats.principal._ROWS", 7)
    parts = principal_plane(made * np.random.default_rng(1).uniform(0.1, 9, (50, 1)))
    np.testing.assert_allclose(parts.places, whole.places, atol=1e-12)
    unit = unit_of(made)
    centred = unit - unit.mean(0)
    for axis in range(2):
        loading = np.linalg.lstsq(whole.places, centred, rcond=None)[0][axis]
        assert loading[np.abs(loading).argmax()] > 0
    made[3] = 0
    assert np.isfinite(principal_plane(made).places).all()
    line = principal_plane(np.array([[2.0], [-1.0], [0.0]]))
    assert line.places[:, 1].tolist() == [0, 0, 0] and line.shares == (pytest.approx(1), 0)
    assert principal_plane(np.ones((4, 3))).shares == pytest.approx((0, 0), abs=1e-9)


def test_a_map_is_coloured_by_what_the_tables_say(rich: Store, rich_run: str) -> None:
    rows = mapped_features(rich, rich_run, "one")
    order = rows.select("n_active", "feature_id").rows()
    assert order == sorted(order, key=lambda row: (-row[0], row[1]))
    found = frame(rich, "FROM specialists WHERE sae_id = 'one' AND q <= 0.05 AND score > 0")
    best: dict[int, tuple] = {}
    for row in found.iter_rows(named=True):
        key = (row["score"], row["auroc"], row["category"])
        best[row["feature_id"]] = max(best.get(row["feature_id"], key), key)
    told = {row["feature_id"]: row for row in rows.iter_rows(named=True)}
    assert {f: row["specialist"] for f, row in told.items() if row["specialist"]} == {
        f: key[2] for f, key in best.items()
    }
    efas = frame(rich, "FROM efas WHERE sae_id = 'one' AND variant = 'lens'")
    for row in efas.iter_rows(named=True):
        assert told[row["feature_id"]]["within"] == row["within"]
    labels = frame(rich, "FROM explanations WHERE is_label AND sae_id = 'one'")["feature_id"]
    assert {f for f, row in told.items() if row["is_labelled"]} == set(labels) != set()


def test_links_are_the_correlations_of_activations(rich: Store, rich_run: str) -> None:
    codes = frame(
        rich,
        "SELECT c.* FROM codes c JOIN tokens t USING (run_id, token_index) WHERE NOT is_masked",
    )
    places = frame(rich, "SELECT token_index FROM tokens WHERE NOT is_masked")["token_index"]
    at = {token: n for n, token in enumerate(places.sort().to_list())}
    z = {"one": np.zeros((len(at), 48)), "two": np.zeros((len(at), 40))}
    for row in codes.iter_rows(named=True):
        if row["sae_id"] in z:
            z[row["sae_id"]][at[row["token_index"]], row["feature_id"]] = row["activation"]
    links = linked_features(rich, rich_run, "one", 7, k=2).filter(way="active")
    assert links["rank"].to_list() == [0, 1] and set(links["other_sae_id"]) == {"two"}
    own = [np.corrcoef(z["one"][:, 7], column)[0, 1] for column in z["two"].T if column.any()]
    np.testing.assert_allclose(links["correlation"], np.sort(own)[::-1][:2], atol=1e-6)


def test_readers_are_cosines_of_what_is_written_and_what_is_read(
    rich: Store, rich_run: str
) -> None:
    known = {sae.sae_id: sae for sae in rich.run(rich_run).info.saes}
    loaded = {name: load_saes([info.source])[0].module for name, info in known.items()}
    read = unit_of(loaded["two"].W_enc.detach().double().numpy().T)
    for writer in ("one", "mlp"):
        cosines = unit_of(loaded[writer].W_dec.detach().double().numpy()) @ read.T
        for feature in (0, 7, 39):
            links = linked_features(rich, rich_run, writer, feature, k=9).filter(way="reads it")
            best = links["other_feature_id"].to_numpy()
            assert len(set(best)) == 5 and set(links["other_sae_id"]) == {"two"}
            np.testing.assert_allclose(links["cosine"], cosines[feature][best], atol=1e-6)
            largest = np.sort(cosines[feature])[::-1][:5]
            np.testing.assert_allclose(links["cosine"], largest, atol=1e-6)
            back = linked_features(rich, rich_run, "two", int(best[0]), k=99).filter(way="is read")
            mine = back.filter(other_sae_id=writer)
            assert feature in mine["other_feature_id"].to_list()
            assert mine["cosine"].is_sorted(descending=True)


def test_the_reader_is_the_next_on_the_stream() -> None:
    def info(hook: str, d_sae: int = 8) -> SaeInfo:
        return SaeInfo(
            f"{hook} {d_sae}", "", None, hook, layer_of(hook), "", "", 4, d_sae, "", "", False,
            False, None, None,
        )  # fmt: skip

    hooks = ("blocks.1.hook_mlp_out", "blocks.1.hook_resid_post", "blocks.2.hook_resid_pre",
             "blocks.0.hook_resid_post", "blocks.1.ln2.hook_normalized")  # fmt: skip
    saes = [*map(info, hooks), info("blocks.1.hook_resid_post", 4)]
    for written, reader in (
        ("blocks.0.hook_attn_out", "blocks.0.hook_resid_post 8"),
        ("blocks.0.hook_resid_post", "blocks.1.hook_resid_post 4"),
        ("blocks.1.hook_mlp_out", "blocks.1.hook_resid_post 4"),
        ("blocks.1.hook_resid_post", "blocks.2.hook_resid_pre 8"),
        ("blocks.2.hook_mlp_out", None),
        ("blocks.0.attn.hook_z", None),
    ):
        found = reader_of(saes, written)
        assert (found and found.sae_id) == reader, written
