"""Two runs compared, against scipy on the raw tables."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from energylens.db.store import Store
from energylens.errors import UnknownNameError
from energylens.ingest.plan import IngestConfig
from energylens.queries.catalog import open_catalog
from energylens.queries.compare import compare_runs
from energylens.queries.differences import matched_runs
from energylens.queries.two_runs import compare_saes, compare_texts
from tests.conftest import make_gpt2, make_sae, make_store
from tests.synthetic import T, unrelated, write_world


@pytest.fixture(scope="module")
def pair_path(tmp_path_factory: pytest.TempPathFactory, gpt2_dir: Path, save_model: Any) -> Path:
    """One model and another over the same texts with the same SAE; the first over other texts;
    and the first with a wider SAE."""
    root = tmp_path_factory.mktemp("pair")
    make_sae("standard", "blocks.1.hook_resid_post", d_sae=40).save_model(root / "saes" / "sae")
    make_sae("standard", "blocks.1.hook_resid_post", d_sae=48).save_model(root / "wide" / "wide")
    words = ["the", "cat", "sat", "on", "a", "mat", "dog", "barks", "at", "night", "1", "+", "="]
    generator = np.random.default_rng(2)
    for name, n in (("one", 30), ("other", 24)):
        with (root / f"{name}.jsonl").open("w") as lines:
            text = ""
            for number in range(n):
                drawn = " ".join(generator.choice(words, generator.integers(4, 12)))
                text = text if number == n - 1 else drawn  # the last one comes twice
                lines.write(f'{{"text": "{text}", "category": "{"ab"[number % 2]}"}}\n')
    first = IngestConfig(
        model=str(gpt2_dir), texts=str(root / "one.jsonl"), saes=(str(root / "saes"),),
        run_id="first", accept_gate=True,
    )  # fmt: skip
    path = root / "pair.lens"
    make_store(path, first)
    make_store(path, replace(first, model=str(save_model(make_gpt2(seed=1))), run_id="second"))
    make_store(path, replace(first, texts=str(root / "other.jsonl"), run_id="elsewhere"))
    make_store(path, replace(first, saes=(str(root / "wide"),), run_id="wide"))
    return path


@pytest.fixture
def pair(pair_path: Path) -> Any:
    with open_catalog(pair_path) as opened:
        yield opened


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


def text_means(store: Store, run: str) -> pl.DataFrame:
    return frame(
        store,
        "SELECT text_id, category, avg(energy) AS e, sum(energy) / length(any_value(text)) AS c "
        "FROM tokens JOIN contexts USING (run_id, context_id) JOIN texts USING (run_id, text_id) "
        f"WHERE run_id = '{run}' AND NOT is_masked GROUP BY ALL HAVING count(energy) > 0 "
        "ORDER BY text_id",
    )


def test_energies_of_the_same_texts_are_compared_text_by_text(pair: Store) -> None:
    found = compare_runs(pair, "first", "second")
    assert found.is_paired and found.unit == "token"
    one, two = text_means(pair, "first"), text_means(pair, "second")
    for row in found.energies.iter_rows(named=True):
        x, y = (
            (t if row["category"] is None else t.filter(pl.col("category") == row["category"]))["e"]
            for t in (one, two)
        )
        test = stats.ttest_rel(y, x)
        interval = test.confidence_interval()  # pyright: ignore
        assert row["p"] == pytest.approx(float(np.asarray(test)[1]), rel=1e-9)
        assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high))
    q = stats.false_discovery_control(found.energies["p"].to_numpy())
    np.testing.assert_allclose(found.energies["q"], q)


def test_other_texts_are_two_samples(pair: Store) -> None:
    found = compare_runs(pair, "first", "elsewhere")
    assert not found.is_paired
    one, two = text_means(pair, "first"), text_means(pair, "elsewhere")
    row = found.energies.row(0, named=True)
    p = float(np.asarray(stats.ttest_ind(two["e"], one["e"], equal_var=False))[1])
    assert row["p"] == pytest.approx(p, rel=1e-9) and row["category"] is None
    assert (row["n_texts"], row["other_n_texts"]) == (30, 24)


def rates(store: Store, run: str) -> np.ndarray:
    """[texts, features]: share of the text's real tokens a feature is active on."""
    rows = frame(
        store,
        "WITH t AS (SELECT text_id, token_index FROM tokens JOIN contexts USING (run_id, "
        f"context_id) WHERE run_id = '{run}' AND NOT is_masked) SELECT text_id, feature_id, "
        f"count(*) AS n FROM codes JOIN t USING (token_index) WHERE run_id = '{run}' GROUP BY ALL",
    )
    sizes = dict(
        frame(
            store,
            "SELECT text_id, count(*) FROM tokens JOIN contexts USING (run_id, context_id) "
            f"WHERE run_id = '{run}' AND NOT is_masked GROUP BY 1 ORDER BY 1",
        ).iter_rows()
    )
    found = np.zeros((len(sizes), 40))
    place = {t: i for i, t in enumerate(sizes)}
    for text, feature, n in rows.iter_rows():
        found[place[text], feature] = n / sizes[text]
    return found


@pytest.mark.parametrize(("other", "is_paired"), [("second", True), ("elsewhere", False)])
def test_rates_of_one_sae_are_tested_over_texts(pair: Store, other: str, is_paired: bool) -> None:
    found = compare_runs(pair, "first", other, k=40).features
    one, two = rates(pair, "first"), rates(pair, other)
    n_checked = 0
    for row in found.iter_rows(named=True):
        x, y = one[:, row["feature_id"]], two[:, row["feature_id"]]
        k = (x != y).sum() if is_paired else (x > 0).sum() + (y > 0).sum()
        assert (row["p_rate"] is None) == (k < 10), "silent texts tell nothing"
        if row["p_rate"] is None:
            continue
        test: Any = stats.ttest_rel(y, x) if is_paired else stats.ttest_ind(y, x, equal_var=False)
        p = 2 * stats.t.sf(abs(test.statistic), min(test.df, k - 1))
        assert row["t_rate"] == pytest.approx(test.statistic, rel=1e-4)
        assert row["p_rate"] == pytest.approx(p, rel=1e-3, abs=1e-9)
        assert row["rate_difference"] == pytest.approx(y.mean() - x.mean(), abs=1e-9)
        n_checked += 1
    assert n_checked > 20
    assert found["p_rate"].drop_nulls().is_sorted()
    some = found.filter(pl.col("t_efas").is_not_null())
    assert len(some) > 3 and some["p_efas"].is_between(0, 1).all()
    for row in some.iter_rows(named=True) if is_paired else ():
        groups = [
            frame(
                pair,
                f"SELECT within_groups FROM efas WHERE run_id = '{run}' AND variant = 'lens' "
                f"AND feature_id = {row['feature_id']}",
            )["within_groups"][0]
            for run in ("first", other)
        ]
        of_groups: Any = stats.ttest_rel(groups[1], groups[0])
        assert row["t_efas"] == pytest.approx(of_groups.statistic, rel=1e-4)
        assert row["p_efas"] == pytest.approx(of_groups.pvalue, rel=1e-3)


def test_saes_are_held_side_by_side_by_their_tables(pair: Store) -> None:
    (row,) = compare_saes(pair, "first", "second").iter_rows(named=True)
    for run, side in (("first", ""), ("second", "other_")):
        efas = frame(pair, f"FROM efas WHERE run_id = '{run}' AND variant = 'lens'")
        features = frame(pair, f"FROM features WHERE run_id = '{run}' AND n_active > 0")
        assert row[f"{side}n_tested"] == efas["t"].drop_nulls().len()
        assert row[f"{side}n_discoveries"] == (efas["q"].drop_nulls() < 0.05).sum()
        t = efas["t"].drop_nulls().cast(pl.Float64).to_numpy()
        assert row[f"{side}rms_t"] == pytest.approx(np.sqrt((t**2).mean()))
        assert row[f"{side}n_live"] == len(features)
        density = features["density"].cast(pl.Float64).to_numpy().mean()
        assert row[f"{side}mean_density"] == pytest.approx(density)


def test_a_text_that_comes_twice_is_paired_once_each(pair: Store) -> None:
    texts = compare_texts(pair, "first", "second")
    assert texts["text_id"].to_list() == texts["other_text_id"].to_list() == list(range(30))
    copies = frame(pair, "SELECT sha256 FROM texts WHERE run_id = 'first'")["sha256"]
    assert copies.n_unique() == 29


def test_saes_of_other_weights_are_matched_by_activation(pair: Store) -> None:
    found = compare_runs(pair, "first", "wide", k=5)
    assert found.saes["is_same_sae"].to_list() == [False]
    assert found.features["correlation"].is_sorted(descending=True)
    matched = matched_runs(pair, "first", "sae", "wide", "wide")
    codes = [
        frame(pair, f"SELECT token_index, feature_id, activation FROM codes WHERE run_id = '{run}'")
        for run in ("first", "wide")
    ]
    tokens = frame(
        pair,
        "SELECT token_index FROM tokens WHERE run_id = 'first' AND NOT is_masked ORDER BY 1",
    )["token_index"].to_list()
    place = {t: i for i, t in enumerate(tokens)}
    z = [np.zeros((len(tokens), d)) for d in (40, 48)]
    for values, rows in zip(z, codes, strict=True):
        for t, f, a in rows.iter_rows():
            if t in place:
                values[place[t], f] = a
    with np.errstate(invalid="ignore"):
        r = np.corrcoef(z[0].T, z[1].T)[:40, 40:]
    for row in matched.iter_rows(named=True):
        own = r[row["feature_id"]]
        assert row["correlation"] == pytest.approx(np.nanmax(own), abs=1e-6)
        assert own[row["other_feature_id"]] == pytest.approx(np.nanmax(own), abs=1e-6)


def test_specialists_of_other_texts_are_compared_by_fishers_test(pair: Store) -> None:
    found = compare_runs(pair, "first", "elsewhere").specialists
    assert found["category"].to_list() == ["a", "b"]
    for row in found.iter_rows(named=True):
        table = [
            [row["n_strong_in"], row["n_in"] - row["n_strong_in"]],
            [row["other_n_strong_in"], row["other_n_in"] - row["other_n_strong_in"]],
        ]
        assert row["p"] == pytest.approx(float(np.asarray(stats.fisher_exact(table))[1]))
    assert found["p"].to_numpy().min() < 0.9


def test_specialists_of_the_same_texts_are_compared_text_by_text(
    tmp_path: Path, gpt2_dir: Path
) -> None:
    """Twelve texts are strong in one run; in the other two of them, two more at just a quarter of
    the strongest text, and one below."""
    levels = {"synthetic": [4.0] * 12, "other": [4.0, 4.0, 1.0, 1.0, 0.9]}
    for run, strength in levels.items():
        world = unrelated("iid")
        world.z[:] = 0
        for window, level in zip(np.flatnonzero(world.category == 0), strength, strict=False):
            world.z[window * T : window * T + T, :2] = level
        write_world(tmp_path / "two.lens", world, gpt2_dir, run)
    with open_catalog(tmp_path / "two.lens") as store:
        found = compare_runs(store, "synthetic", "other").specialists
        assert (
            compare_saes(store, "synthetic", "other")["n_found"][0] == 1
        )  # category, two features
    row = found.filter(pl.col("category") == "a").row(0, named=True)
    assert (row["n_strong_in"], row["other_n_strong_in"]) == (12, 4)
    assert row["p"] == pytest.approx(stats.binomtest(8, 8, 0.5).pvalue)  # eight texts changed


def test_a_run_against_itself_differs_in_nothing(pair: Store) -> None:
    found = compare_runs(pair, "first", "first")
    assert found.energies["difference"].to_list() == [0.0] * 3
    assert found.energies["p"].null_count() == 3
    assert found.features["p_rate"].null_count() == len(found.features)


def test_an_unknown_run_is_named(pair: Store) -> None:
    with pytest.raises(UnknownNameError, match="has no run 'nowhere'"):
        compare_runs(pair, "first", "nowhere")
