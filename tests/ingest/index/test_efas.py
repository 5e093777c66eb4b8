"""EFAS in the index against g = -dE/dz of every token, written out densely."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from energylens.db.store import Store
from energylens.db.verify import verify_store
from energylens.errors import UsageError
from energylens.ingest.on_request.another_gradient import add_variant, resample_features
from energylens.ingest.plan import IngestConfig
from energylens.ingest.progress import Progress
from energylens.lens.saes import load_saes
from energylens.queries.catalog import open_catalog
from tests.conftest import make_sae, make_store
from tests.oracles import by_text, robust_t, two_way_residual

N_TEXTS = 48


@pytest.fixture(scope="module")
def dense_config(
    tmp_path_factory: pytest.TempPathFactory, gpt2_dir: Path, tokenizer: Any
) -> IngestConfig:
    """Texts of differing length in two categories and one without, an SAE that is active often."""
    root = tmp_path_factory.mktemp("efas")
    make_sae("standard", "blocks.1.hook_resid_post", d_sae=48).save_model(root / "saes" / "resid")
    words = ["the", "cat", "sat", "on", "a", "mat", "dog", "barks", "at", "night", "1", "+", "="]
    generator = np.random.default_rng(0)
    lines = []
    for number in range(N_TEXTS):
        text = " ".join(generator.choice(words, generator.integers(3, 22)))
        category = f', "category": "{"ab"[number % 2]}"' if number % 5 else ""
        lines.append(f'{{"text": "{text}"{category}}}\n')
    (root / "texts.jsonl").write_text("".join(lines))
    return IngestConfig(
        model=str(gpt2_dir),
        texts=str(root / "texts.jsonl"),
        saes=(str(root / "saes"),),
        keep=("gradients",),
        efas=("lens", "own", "total", "calibration"),
    )


@pytest.fixture(scope="module")
def dense_path(tmp_path_factory: pytest.TempPathFactory, dense_config: IngestConfig) -> Path:
    path = tmp_path_factory.mktemp("store") / "efas.lens"
    make_store(path, dense_config)
    return path


@pytest.fixture
def dense(dense_path: Path) -> Any:
    with open_catalog(dense_path) as opened:
        yield opened


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


@pytest.fixture
def tokens(dense: Store) -> pl.DataFrame:
    """The valid tokens."""
    return frame(
        dense,
        "SELECT t.*, y.category, c.text_id FROM tokens t "
        "JOIN contexts c USING (run_id, context_id) JOIN texts y USING (run_id, text_id) "
        "WHERE NOT is_masked AND energy IS NOT NULL ORDER BY token_index",
    )


@pytest.fixture
def z(dense: Store, tokens: pl.DataFrame) -> np.ndarray:
    row = {t: i for i, t in enumerate(tokens["token_index"])}
    found = np.zeros((len(tokens), 48))
    for t, f, a in frame(
        dense, "SELECT token_index, feature_id, activation FROM codes"
    ).iter_rows():
        if t in row:
            found[row[t], f] = a
    return found


@pytest.fixture
def g(dense: Store, dense_config: IngestConfig, tokens: pl.DataFrame) -> np.ndarray:
    """g of every feature at every valid token, from the kept gradients."""
    kept = frame(dense, "SELECT token_index, gradient FROM energy_gradients")
    by_token = dict(kept.iter_rows())
    a = np.array([by_token[t] for t in tokens["token_index"]], dtype=np.float64)
    (sae,) = load_saes(list(dense_config.saes))
    return -a @ sae.W_dec.double().numpy().T


def efas(store: Store, variant: str = "lens") -> pl.DataFrame:
    return frame(store, f"SELECT * FROM efas WHERE variant = '{variant}' ORDER BY feature_id")


def column(rows: pl.DataFrame, name: str) -> np.ndarray:
    return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def test_every_number_equals_the_dense_formula(
    dense: Store, tokens: pl.DataFrame, z: np.ndarray, g: np.ndarray
) -> None:
    rows = efas(dense)
    n = len(tokens)
    some = 0
    for f in range(48):
        row = rows.row(f, named=True)
        on = z[:, f] != 0
        assert row["n_active"] == on.sum()
        if on.sum() < 3:
            continue
        some += 1
        assert row["efas"] == pytest.approx(stats.pearsonr(z[:, f], g[:, f])[0], abs=1e-6)
        assert row["gate"] == pytest.approx(stats.pearsonr(on, g[:, f])[0], abs=1e-6)
        assert row["dose"] == pytest.approx(stats.pearsonr(z[on, f], g[on, f])[0], abs=1e-5)
        smd = (g[on, f].mean() - g[~on, f].mean()) / g[:, f].std()
        assert row["smd"] == pytest.approx(smd, abs=1e-5)
        assert row["attribution"] == pytest.approx((z[:, f] * g[:, f]).sum() / n, abs=1e-6)
        assert row["n_texts"] == tokens.filter(pl.Series(on))["text_id"].n_unique()
    assert some > 30


def test_the_default_test_is_two_way_demeaned_and_clustered_by_text(
    dense: Store, tokens: pl.DataFrame, z: np.ndarray, g: np.ndarray
) -> None:
    rows = efas(dense)
    text = tokens["text_id"].to_numpy()
    scores = z * two_way_residual(g, tokens)
    expected = robust_t(scores, text)
    found = column(rows, "t")
    tested = ~np.isnan(found)
    assert tested.sum() > 20 and len(np.unique(text)) < tokens["context_id"].n_unique()
    np.testing.assert_allclose(found[tested], expected[tested], rtol=1e-4, atol=1e-5)
    n_active, n_texts = column(rows, "n_active"), column(rows, "n_texts")
    p = 2 * stats.t.sf(np.abs(found), n_texts - 1)
    np.testing.assert_allclose(column(rows, "p")[tested], p[tested], rtol=1e-9)
    q = stats.false_discovery_control(p[tested])
    np.testing.assert_allclose(column(rows, "q")[tested], q, rtol=1e-9)
    assert (tested == ((n_active >= 30) & (n_texts >= 10))).all()
    assert np.isnan(column(rows, "q")[~tested]).all()
    unit = len(tokens) * z.std(axis=0) * g.std(axis=0)
    sums = by_text(scores, text)
    middle, n = sums.sum(axis=0) / unit, len(sums)
    np.testing.assert_allclose(column(rows, "within")[tested], middle[tested], rtol=1e-4, atol=1e-6)
    groups = by_text(sums, np.unique(text) % 20)[:, tested] / unit[tested]
    stored = np.array(rows["within_groups"].drop_nulls().to_list()).T
    np.testing.assert_allclose(stored, groups, rtol=1e-3, atol=1e-5)
    reach = stats.t.ppf(0.975, n_texts - 1) * sums.std(axis=0, ddof=1) * np.sqrt(n) / unit
    for name, sign in (("within_low", -1), ("within_high", 1)):
        bound = middle + sign * reach
        np.testing.assert_allclose(
            column(rows, name)[tested], bound[tested], rtol=1e-3, atol=1e-5, err_msg=name
        )


def test_the_plain_correlation_has_a_test_of_its_own(
    dense: Store, tokens: pl.DataFrame, z: np.ndarray, g: np.ndarray
) -> None:
    rows = efas(dense)
    text = tokens["text_id"].to_numpy()
    t = robust_t((z - z.mean(axis=0)) * (g - g.mean(axis=0)), text)
    found = column(rows, "t_efas")
    tested = ~np.isnan(found)
    assert (tested == ~np.isnan(column(rows, "t"))).all()
    np.testing.assert_allclose(found[tested], t[tested], rtol=1e-4, atol=1e-5)
    same_sign = np.sign(found[tested]) == np.sign(column(rows, "efas")[tested])
    assert same_sign.all(), "a statistic and its t never contradict each other"
    p = 2 * stats.t.sf(np.abs(found), len(np.unique(text)) - 1)
    np.testing.assert_allclose(column(rows, "p_efas")[tested], p[tested], rtol=1e-9)
    q = stats.false_discovery_control(p[tested])
    np.testing.assert_allclose(column(rows, "q_efas")[tested], q, rtol=1e-9)


def test_each_half_holds_whole_texts(
    dense: Store, tokens: pl.DataFrame, z: np.ndarray, g: np.ndarray
) -> None:
    rows = efas(dense)
    scores = z * two_way_residual(g, tokens)
    for half, name in enumerate(("t_even", "t_odd")):
        own = (tokens["text_id"] % 2 == half).to_numpy()
        expected = robust_t(scores[own], tokens["text_id"].to_numpy()[own])
        found = column(rows, name)
        tested = ~np.isnan(found)
        assert tested.sum() > 10
        np.testing.assert_allclose(found[tested], expected[tested], rtol=1e-4, atol=1e-5)


def test_adjustment_takes_off_position_frequency_and_energy(
    dense: Store, tokens: pl.DataFrame, z: np.ndarray, g: np.ndarray
) -> None:
    columns = [tokens[c].cast(pl.Float64).to_numpy() for c in ("pos", "log_frequency", "energy")]
    x = np.stack([np.ones(len(tokens)), *columns], axis=1)

    def residual(v: np.ndarray) -> np.ndarray:
        return v - x @ np.linalg.lstsq(x, v, rcond=None)[0]

    rz, rg = residual(z), residual(g)
    rows = efas(dense)
    found = column(rows, "adjusted")
    for f in np.flatnonzero(~np.isnan(found)):
        assert found[f] == pytest.approx(stats.pearsonr(rz[:, f], rg[:, f])[0], abs=1e-5)
    t = column(rows, "t_adjusted")
    tested = ~np.isnan(t)
    expected = robust_t(z * rg, tokens["text_id"].to_numpy())
    np.testing.assert_allclose(t[tested], expected[tested], rtol=1e-4, atol=1e-5)
    x = x[:, :3]  # the energy itself is adjusted for the others alone
    lens = frame(dense, "SELECT token_index, energy AS e FROM energies WHERE layer = 1")
    series = tokens.join(lens, on="token_index", maintain_order="left")["e"].to_numpy()
    rz, rg = residual(z), residual(series.astype(np.float64))
    found = column(efas(dense, "energy"), "adjusted")
    assert (~np.isnan(found)).sum() > 30
    for f in np.flatnonzero(~np.isnan(found)):
        assert found[f] == pytest.approx(stats.pearsonr(rz[:, f], rg)[0], abs=1e-5)


def test_the_frequency_of_a_token_is_counted_over_the_corpus(dense: Store) -> None:
    rows = frame(dense, "SELECT vocab_id, log_frequency, is_special FROM tokens")
    counts = rows.filter(~pl.col("is_special"))["vocab_id"].value_counts()
    expected = dict(counts.iter_rows())
    for vocab_id, found, is_special in rows.iter_rows():
        assert (found is None) == is_special
        if found is not None:
            assert found == pytest.approx(np.log(expected[vocab_id]), abs=1e-6)


def test_categories_have_their_own_correlation(
    dense: Store, tokens: pl.DataFrame, z: np.ndarray, g: np.ndarray
) -> None:
    rows = frame(dense, "SELECT * FROM efas_categories WHERE variant = 'lens'")
    scores = z * two_way_residual(g, tokens)
    assert set(rows["category"]) == {"a", "b"}
    n_tested = 0
    for row in rows.iter_rows(named=True):
        own, f = (
            (tokens["category"] == row["category"]).fill_null(False).to_numpy(),
            row["feature_id"],
        )
        assert row["n_active"] == (z[own, f] != 0).sum() > 0
        if row["n_active"] > 2:
            expected = stats.pearsonr(z[own, f], g[own, f])[0]
            assert row["efas"] == pytest.approx(expected, abs=1e-5)
        if row["t"] is not None:
            n_tested += 1
            text = tokens["text_id"].to_numpy()[own]
            assert row["t"] == pytest.approx(robust_t(scores[own, f], text), rel=1e-3, abs=1e-4)
    assert n_tested > 10
    tested = rows.filter(pl.col("p").is_not_null())  # one family over all categories
    q = stats.false_discovery_control(tested["p"].to_numpy())
    np.testing.assert_allclose(column(tested, "q"), q, rtol=1e-9)


def test_scalar_variants_are_the_series_they_are_named_for(
    dense: Store, tokens: pl.DataFrame, z: np.ndarray
) -> None:
    lens = dict(
        frame(dense, "SELECT token_index, energy FROM energies WHERE layer = 1").iter_rows()
    )
    energy = np.array([lens[t] for t in tokens["token_index"]], dtype=np.float64)
    every = frame(
        dense, "SELECT context_id, token_index FROM tokens WHERE energy IS NOT NULL ORDER BY 2"
    )
    slope: dict[int, float] = {}
    for _, part in every.group_by("context_id"):
        series = np.array([lens[t] for t in part["token_index"]], dtype=np.float64)
        slopes = np.gradient(series) if len(series) > 1 else np.zeros(1)
        slope |= dict(zip(part["token_index"], slopes, strict=True))
    position = -np.array([slope[t] for t in tokens["token_index"]])
    output = np.array(tokens["energy"], dtype=np.float64)
    for variant, series in (("energy", energy), ("position", position), ("drop", energy - output)):
        found = column(efas(dense, variant), "efas")
        for f in np.flatnonzero(~np.isnan(found)):
            assert found[f] == pytest.approx(stats.pearsonr(z[:, f], series)[0], abs=1e-6), variant


def test_stored_g_is_the_gradient_times_the_direction(
    dense: Store, tokens: pl.DataFrame, g: np.ndarray
) -> None:
    row = {t: i for i, t in enumerate(tokens["token_index"])}
    rows = frame(dense, "SELECT * FROM codes")
    for table in (rows, frame(dense, "SELECT * FROM feature_codes")):
        for t, f, found in table.select("token_index", "feature_id", "g_lens").iter_rows():
            if t in row:
                assert found == pytest.approx(g[row[t], f], rel=1e-4, abs=1e-5)
    ends = frame(
        dense, "SELECT count(*) AS n FROM codes JOIN tokens USING (run_id, token_index) WHERE "
        "(energy IS NULL) <> (g_lens IS NULL) OR (g_total IS NULL) <> (g_own IS NULL)"
    )  # fmt: skip
    assert ends["n"][0] == 0


def test_own_and_total_differ_from_the_lens(dense: Store) -> None:
    found = {v: column(efas(dense, v), "efas") for v in ("lens", "own", "total", "calibration")}
    live = ~np.isnan(found["lens"])
    for one, other in (("lens", "own"), ("own", "total"), ("lens", "calibration")):
        assert np.abs(found[one] - found[other])[live].max() > 1e-3


def test_flips_confirm_the_default_and_the_familywise_p_is_larger(dense: Store) -> None:
    rows = efas(dense).filter(pl.col("t").is_not_null())
    p, flip = column(rows, "p"), column(rows, "p_flip")
    assert np.corrcoef(stats.rankdata(p), stats.rankdata(flip))[0, 1] > 0.99
    assert (column(rows, "p_familywise") >= flip - 1e-12).all()


def test_shards_and_batches_do_not_change_a_number(
    tmp_path: Path, dense: Store, dense_config: IngestConfig, small_shards: None
) -> None:
    make_store(tmp_path / "s.lens", replace(dense_config, batch_tokens=48))
    with open_catalog(tmp_path / "s.lens") as other:
        assert other.runs[0].n_complete > 3
        for table in ("efas", "efas_categories"):
            key = "variant, category, feature_id" if "cat" in table else "variant, feature_id"
            mine, its = (frame(s, f"SELECT * FROM {table} ORDER BY {key}") for s in (dense, other))
            assert mine.columns == its.columns and len(mine) == len(its)
            for name in mine.columns:
                if mine[name].dtype.is_numeric():
                    one, two = column(mine, name), column(its, name)
                    np.testing.assert_allclose(one, two, rtol=2e-2, atol=2e-3, err_msg=name)


def test_without_energies_there_is_no_efas(tmp_path: Path, config: IngestConfig) -> None:
    make_store(tmp_path / "s.lens", replace(config, energies="none"))
    with open_catalog(tmp_path / "s.lens") as store:
        assert frame(store, "SELECT * FROM efas").is_empty()
        assert frame(store, "SELECT * FROM codes WHERE g_lens IS NOT NULL").is_empty()


def test_a_gradient_added_later_is_the_one_an_ingest_would_have_kept(
    tmp_path: Path, dense: Store, dense_config: IngestConfig
) -> None:
    path = tmp_path / "later.lens"
    run_id = make_store(path, replace(dense_config, efas=("lens",), keep=()))
    for variant in ("calibration", "own"):
        add_variant(path, run_id, "resid", variant, Progress())
    assert verify_store(path) == []
    with open_catalog(path) as later:
        for variant in ("calibration", "lens", "own"):
            mine, its = efas(dense, variant), efas(later, variant)
            for name in ("efas", "dose", "attribution", "adjusted", "t", "t_odd", "p_familywise"):
                one, two = column(mine, name), column(its, name)
                np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-5, err_msg=name)
        rows = "SELECT * FROM efas_categories WHERE variant = 'own' ORDER BY category, feature_id"
        one, two = frame(dense, rows), frame(later, rows)
        assert one["n_active"].to_list() == two["n_active"].to_list()
        np.testing.assert_allclose(column(one, "t"), column(two, "t"), rtol=1e-3, atol=1e-5)
    add_variant(path, run_id, "resid", "own", Progress())  # once more replaces it
    with open_catalog(path) as later:
        assert len(efas(later, "own")) == 48


def test_tests_on_request_see_every_token(
    dense: Store, dense_path: Path, tokens: pl.DataFrame, z: np.ndarray, g: np.ndarray
) -> None:
    run_id = dense.runs[0].info.run_id
    live = [f for f in range(48) if (z[:, f] != 0).sum() > 20][:4]
    found = resample_features(
        dense_path, run_id, "resid", live, ("spearman", "text", "shift"), "lens", 99, Progress()
    )
    for f, r in zip(live, found["spearman"], strict=True):
        assert r == pytest.approx(float(np.asarray(stats.spearmanr(z[:, f], g[:, f]))[0]), abs=1e-4)
    assert found["n_texts_moved"][0] >= 10
    assert found["p_text"].is_between(0.01, 1).all() and found["p_shift"].is_between(0.01, 1).all()


def test_what_cannot_be_asked_is_said(
    tmp_path: Path, dense: Store, dense_path: Path, dense_config: IngestConfig
) -> None:
    run_id = dense.runs[0].info.run_id

    def ask(
        *features: int, tests: str = "shift", variant: str = "lens", sae: str = "resid"
    ) -> None:
        resample_features(dense_path, run_id, sae, [*features], (tests,), variant, 9, Progress())

    with pytest.raises(UsageError, match="features 0 to 47, not 48"):
        ask(48)
    with pytest.raises(UsageError, match="not 'magic'"):
        ask(1, tests="magic")
    with pytest.raises(UsageError, match="not 'wrong'"):
        ask(1, variant="wrong")
    with pytest.raises(UsageError, match="has no SAE 'none'; nearest: "):
        ask(1, sae="none")
    path = tmp_path / "x.lens"
    texts = Path(shutil.copy(dense_config.texts, tmp_path / "t.jsonl"))
    own = make_store(path, replace(dense_config, texts=str(texts)))
    texts.write_text('{"text": "something else"}\n')
    with pytest.raises(UsageError, match=r"the corpus of the run .* is not what lies at .*t.jsonl"):
        add_variant(path, own, "resid", "own", Progress())
