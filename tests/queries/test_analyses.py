"""The analyses' SQL against numpy and scipy on the raw tables."""

import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from energylens.db.store import Store
from energylens.queries.coactivation import (
    coactivation_partners,
    coactive_pair,
    feature_evolution,
    matched_features,
    matching_features,
)
from energylens.queries.efas import (
    efas_by_layer,
    efas_histogram,
    efas_ranking,
    efas_scatter,
    efas_split,
)
from energylens.queries.specialists import (
    find_specialists,
    layer_progression,
    padding_effect,
    ranked_specialists,
    specialist_categories,
    specialist_matrix,
    stream_comparison,
)


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


@pytest.fixture
def texts(rich: Store) -> pl.DataFrame:
    return frame(
        rich,
        "SELECT text_id, any_value(category) AS category, count(*) AS n FROM tokens JOIN contexts "
        "USING (run_id, context_id) JOIN texts USING (run_id, text_id) WHERE NOT is_masked "
        "GROUP BY text_id ORDER BY text_id",
    )


def means(store: Store, texts: pl.DataFrame, sae: str, d_sae: int) -> np.ndarray:
    """[texts, d_sae]: mean activation over the real tokens of each text, from the codes."""
    rows = frame(
        store,
        "SELECT text_id, feature_id, sum(activation::DOUBLE) AS total FROM codes JOIN tokens USING "
        "(run_id, token_index) JOIN contexts USING (run_id, context_id) "
        f"WHERE sae_id = '{sae}' AND NOT is_masked GROUP BY ALL",
    )
    place = {t: i for i, t in enumerate(texts["text_id"])}
    found = np.zeros((len(texts), d_sae))
    for text_id, feature, total in rows.iter_rows():
        found[place[text_id], feature] = total / texts["n"][place[text_id]]
    return found


@pytest.mark.parametrize(("threshold", "with_padding"), [(0.25, False), (0.6, False), (0.25, True)])
def test_specialists_equal_scipy(
    rich: Store, rich_run: str, texts: pl.DataFrame, threshold: float, with_padding: bool
) -> None:
    values = means(rich, texts, "one", 48).astype(np.float32).astype(np.float64)
    if with_padding:
        values = values * (texts["n"] / texts["n"].to_numpy().max()).to_numpy()[:, None]
    found = find_specialists(rich, rich_run, "one", threshold, with_padding)
    category = texts["category"].to_list()
    assert None in category and set(found["category"]) == {"a", "b"}
    n_checked = 0
    for row in found.iter_rows(named=True):
        own = values[:, row["feature_id"]]
        inside = np.array([c == row["category"] for c in category])
        strong = (own >= threshold * own.max() * (1 - 1e-6)) & (own > 0)
        k, m = int(strong[inside].sum()), int(strong[~inside].sum())
        assert (row["n_strong_in"], row["n_strong_out"]) == (k, m)
        assert row["score"] == k - m and (row["n_in"], row["n_out"]) == (
            inside.sum(), (~inside).sum(),
        )  # fmt: skip
        p = stats.hypergeom.sf(k - 1, len(own), k + m, inside.sum())
        assert row["p"] == pytest.approx(min(p, 1.0), abs=1e-9)
        exact = stats.fisher_exact(
            [[k, inside.sum() - k], [m, (~inside).sum() - m]], alternative="greater"
        )
        assert row["p"] == pytest.approx(exact[1], abs=1e-9)
        u = stats.mannwhitneyu(own[inside], own[~inside])[0]
        assert row["auroc"] == pytest.approx(
            u / (inside.sum() * (~inside).sum()), abs=1e-2 if with_padding else 1e-6
        )  # lengths multiplied out again leave ties that rounding breaks either way
        difference = own[inside].mean() - own[~inside].mean()
        assert row["mean_difference"] == pytest.approx(difference, abs=1e-6)
        odds = (k + 0.5) * ((~inside).sum() - m + 0.5) / ((inside.sum() - k + 0.5) * (m + 0.5))
        assert row["log_odds"] == pytest.approx(math.log(odds), abs=1e-9)
        n_checked += 1
    assert n_checked == 2 * int((values != 0).any(axis=0).sum())
    q = stats.false_discovery_control(found["p"].to_numpy())
    np.testing.assert_allclose(found["q"].to_numpy(), q, rtol=1e-9)


def test_the_stored_table_is_the_query_at_its_default(rich: Store, rich_run: str) -> None:
    stored = frame(rich, "SELECT * EXCLUDE (run_id, sae_id) FROM specialists WHERE sae_id = 'two'")
    found = find_specialists(rich, rich_run, "two")
    key = ["category", "feature_id"]
    one, two = stored.sort(key), found.sort(key)
    for name in one.columns:
        if one[name].dtype.is_numeric():
            np.testing.assert_allclose(one[name], two[name], rtol=1e-6, err_msg=name)


def test_lists_of_specialists_agree_with_the_table(rich: Store, rich_run: str) -> None:
    table = frame(rich, "SELECT * FROM specialists")
    matrix = specialist_matrix(rich, rich_run)
    assert len(matrix) == 3 * 2
    for row in matrix.iter_rows(named=True):
        own = table.filter(
            (pl.col("sae_id") == row["sae_id"]) & (pl.col("category") == row["category"])
        ).sort(["score", "auroc", "feature_id"], descending=[True, True, False])
        assert row["feature_id"] == own["feature_id"][0] and row["score"] == own["score"][0]
        assert row["is_found"] == (own["score"][0] > 0 and own["q"][0] < 0.05)
        ranked = ranked_specialists(rich, rich_run, row["sae_id"], row["category"], k=5)
        assert ranked["feature_id"].to_list() == own["feature_id"].head(5).to_list()
    verdicts = specialist_categories(rich, rich_run)
    for row in verdicts.iter_rows(named=True):
        n = int(matrix.filter(pl.col("category") == row["category"])["is_found"].to_numpy().sum())
        assert row["n_found"] == n
        expected = {0: "never", 3: "always"}.get(n, "sometimes")
        assert row["verdict"] == expected
    layers = layer_progression(rich, rich_run)
    for row in layers.iter_rows(named=True):
        own = frame(rich, f"SELECT * FROM features WHERE sae_id = '{row['sae_id']}'")
        assert row["coverage"] == pytest.approx(own["n_texts"].to_numpy().max() / 40)
        assert row["peak_activation"] == own["max_activation"].drop_nulls().to_numpy().max()
        assert row["n_found"] == matrix.filter(pl.col("sae_id") == row["sae_id"])["is_found"].sum()
    streams = stream_comparison(rich, rich_run)
    assert dict(zip(streams["stream"], streams["n_saes"], strict=True)) == {"mlp": 1, "residual": 2}
    of_stream = {"mlp": ("mlp",), "residual": ("one", "two")}
    for row in streams.iter_rows(named=True):
        own = matrix.filter(pl.col("sae_id").is_in(of_stream[row["stream"]]))
        assert row["n_categories"] == own["category"].n_unique() == 2
        found = own.filter("is_found")
        assert row["n_found_anywhere"] == found["category"].n_unique()
        assert row["share_found"] == pytest.approx(len(found) / len(own))
        assert row["mean_best_auroc"] == pytest.approx(own["auroc"].to_numpy().mean())


def test_padding_fades_short_texts(rich: Store, rich_run: str) -> None:
    found = padding_effect(rich, rich_run, "one")
    assert found["category"].to_list() == ["a", "b"]
    plain, padded = (find_specialists(rich, rich_run, "one", with_padding=w) for w in (False, True))
    for row in found.iter_rows(named=True):
        for table, column in ((plain, "score"), (padded, "padded_score")):
            best = table.filter(pl.col("category") == row["category"])["score"].to_numpy().max()
            assert row[column] == best


@pytest.fixture
def z(rich: Store) -> dict[str, np.ndarray]:
    """[tokens, d_sae] of each SAE, over tokens that are not masked."""
    index = frame(rich, "SELECT token_index FROM tokens WHERE NOT is_masked ORDER BY 1")
    row = {t: i for i, t in enumerate(index["token_index"])}
    found = {"one": np.zeros((len(row), 48)), "two": np.zeros((len(row), 40))}
    for sae, t, f, a in frame(
        rich, "SELECT sae_id, token_index, feature_id, activation FROM codes WHERE sae_id <> 'mlp'"
    ).iter_rows():
        if t in row:
            found[sae][row[t], f] = a
    return found


def strata_of(sizes: np.ndarray) -> list[np.ndarray]:
    """Texts by length, ten or more together."""
    return np.array_split(np.argsort(sizes, kind="stable"), max(len(sizes) // 10, 1))


def shared_by_chance(a: np.ndarray, b: np.ndarray, strata: list[np.ndarray]) -> np.ndarray:
    """Chances of sharing 0, 1, ... texts when both deal their texts anew within each stratum."""
    chances = np.ones(1)
    for part in strata:
        n_a, n_b = int(a[part].sum()), int(b[part].sum())
        own = stats.hypergeom.pmf(np.arange(min(n_a, n_b) + 1), len(part), n_a, n_b)
        chances = np.convolve(chances, own)
    return chances


def test_coactivation_equals_numpy(
    rich: Store, rich_run: str, texts: pl.DataFrame, z: dict[str, np.ndarray]
) -> None:
    by_unit = {"token": z["one"] != 0, "text": means(rich, texts, "one", 48) != 0}
    stored = frame(rich, "SELECT * FROM coactivation WHERE sae_id = 'one'")
    n_live = int(by_unit["text"].any(axis=0).sum())
    strata = strata_of(texts["n"].to_numpy())
    centred = by_unit["text"].astype(float)
    for part in strata:
        centred[part] -= centred[part].mean(axis=0)
    with np.errstate(invalid="ignore"):
        phis = {"token": np.corrcoef(by_unit["token"].T), "text": np.corrcoef(centred.T)}
    for unit, on in by_unit.items():
        rows = stored.filter(pl.col("unit") == unit)
        n = len(on)
        for row in rows.iter_rows(named=True):
            f, partner = row["feature_id"], row["partner_id"]
            a, b = on[:, f], on[:, partner]
            both = int((a & b).sum())
            assert (row["n_both"], row["n_feature"], row["n_partner"], row["n_units"]) == (
                both, a.sum(), b.sum(), n,
            )  # fmt: skip
            assert row["jaccard"] == pytest.approx(both / (a | b).sum(), rel=1e-6)
            za, zb = (z["one"][:, i] for i in (f, partner))
            cosine = za @ zb / np.sqrt(za @ za * (zb @ zb))
            assert row["cosine"] == pytest.approx(cosine, abs=1e-6)
            ta, tb = (by_unit["text"][:, i] for i in (f, partner))
            chances = shared_by_chance(ta, tb, strata)
            mean = chances @ np.arange(len(chances))
            assert row["n_texts_both"] == (ta & tb).sum()
            assert row["n_texts_expected"] == pytest.approx(mean, abs=1e-9)
            tail = chances[int((ta & tb).sum()) :].sum()
            assert row["p"] == pytest.approx(tail, rel=1e-9, abs=1e-12)
            expected = mean if unit == "text" else a.sum() * b.sum() / n
            assert row["lift"] == pytest.approx(both / expected, rel=1e-6)
            assert row["pmi"] == pytest.approx(math.log(both / expected), abs=1e-6)
            assert row["phi"] == pytest.approx(phis[unit][f, partner], abs=1e-6)
        assert (rows["q"] >= rows["p"]).all() and rows["q"].to_numpy().max() <= 1
        first = rows.sort("p")["p"][0]
        assert rows["q"].to_numpy().min() <= min(first * n_live * (n_live - 1), 1) + 1e-12
        # nobody with a higher phi is left out
        for f in np.flatnonzero(on.any(axis=0)):
            others = [b for b in range(48) if b != f and (on[:, f] & on[:, b]).any()]
            known = [phis[unit][f, b] for b in others if np.isfinite(phis[unit][f, b])]
            own = rows.filter(pl.col("feature_id") == f).sort("rank")["phi"].to_numpy()
            np.testing.assert_allclose(own, sorted(known, reverse=True)[:50], atol=1e-6)


def test_sharing_is_not_tested_over_few_texts(store: Store) -> None:
    rows = frame(store, "SELECT p, q FROM coactivation")
    assert len(rows) > 100 and rows.fill_null(np.nan).select(pl.all().is_nan().all()).row(0) == (
        True, True,
    )  # fmt: skip


def test_any_pair_is_counted_on_demand(
    rich: Store, rich_run: str, texts: pl.DataFrame, z: dict[str, np.ndarray]
) -> None:
    found = {r["unit"]: r for r in coactive_pair(rich, rich_run, "one", 7, 8).iter_rows(named=True)}
    stored = coactivation_partners(rich, rich_run, "one", 7, k=50).filter(pl.col("partner_id") == 8)
    for name in ("n_both", "n_feature", "n_partner", "jaccard", "lift", "phi", "cosine"):
        assert found["token"][name] == pytest.approx(stored[name][0], rel=1e-5)
    by_text = frame(
        rich,
        "SELECT * FROM coactivation WHERE sae_id = 'one' AND unit = 'text' AND feature_id = 7 "
        "AND rank = 3",
    ).row(0, named=True)
    pair = coactive_pair(rich, rich_run, "one", 7, by_text["partner_id"]).row(1, named=True)
    assert pair["n_expected"] == pytest.approx(by_text["n_texts_expected"], rel=1e-9)
    for name in ("n_both", "n_feature", "n_partner", "jaccard", "lift", "pmi", "phi"):
        assert pair[name] == pytest.approx(by_text[name], rel=1e-5), name
    a, b = z["one"][:, 7] != 0, z["one"][:, 9] != 0
    text = frame(
        rich,
        "SELECT text_id FROM tokens JOIN contexts USING (run_id, context_id) WHERE NOT is_masked "
        "ORDER BY token_index",
    )["text_id"].to_numpy()
    d = np.array(
        [
            (a & b)[text == t].sum() - a[text == t].sum() * b[text == t].sum() / (text == t).sum()
            for t in np.unique(text)
        ]
    )
    other = coactive_pair(rich, rich_run, "one", 7, 9).filter(pl.col("unit") == "token")
    assert other["z_within"][0] == pytest.approx(d.sum() / np.sqrt((d**2).sum()), rel=1e-6)
    silent = f"FROM coactive_pair('{rich_run}', 'one', 7, 999) WHERE unit = 'token'"
    nothing = frame(rich, silent)
    assert nothing["n_both"][0] == 0 and nothing["lift"][0] is None


def test_a_pair_of_two_saes_is_counted_over_the_same_tokens(
    rich: Store, rich_run: str, z: dict[str, np.ndarray]
) -> None:
    partner = int((z["two"] != 0).sum(axis=0).argmax())
    a, b = z["one"][:, 7], z["two"][:, partner]
    found = coactive_pair(rich, rich_run, "one", 7, partner, "two")
    token = found.filter(pl.col("unit") == "token").row(0, named=True)
    assert token["n_both"] == int(np.count_nonzero((a != 0) & (b != 0)))
    assert token["phi"] == pytest.approx(float(np.corrcoef(a != 0, b != 0)[0, 1]))
    assert token["cosine"] == pytest.approx(a @ b / np.sqrt((a @ a) * (b @ b)), rel=1e-6)


def test_matches_are_correlations_over_all_tokens(
    rich: Store, rich_run: str, z: dict[str, np.ndarray]
) -> None:
    with np.errstate(invalid="ignore"):
        r = np.corrcoef(z["one"].T, z["two"].T)[:48, 48:]
    stored = frame(
        rich, "SELECT * FROM feature_matches WHERE sae_id = 'one' ORDER BY feature_id, rank"
    )
    assert set(stored["other_sae_id"]) == {"two"}
    for row in stored.iter_rows(named=True):
        own = r[row["feature_id"]]
        assert row["correlation"] == pytest.approx(own[row["other_feature_id"]], abs=1e-6)
        ordered = np.sort(own[~np.isnan(own)])[::-1]
        assert row["correlation"] == pytest.approx(ordered[row["rank"]], abs=1e-6)
        assert -1.0001 <= row["cosine"] <= 1.0001
    asked = matching_features(rich, rich_run, "one", 7, "two", k=3)
    mine = stored.filter(pl.col("feature_id") == 7)
    assert asked["other_feature_id"].to_list() == mine["other_feature_id"].to_list()
    np.testing.assert_allclose(asked["correlation"], mine["correlation"], atol=1e-6)
    walk = feature_evolution(rich, rich_run, "one", 7)
    assert walk["step"].to_list() == [0, 1] and walk["at_sae"].to_list() == ["one", "two"]
    assert walk["at_feature"].to_list() == [7, mine["other_feature_id"][0]]
    back = feature_evolution(rich, rich_run, "two", mine["other_feature_id"][0])
    assert back["step"].to_list() == [-1, 0]
    best = matched_features(rich, rich_run, "one", k=100)
    assert best["correlation"].is_sorted(descending=True)


def test_efas_lists_are_the_table(rich: Store, rich_run: str) -> None:
    table = frame(rich, "SELECT * FROM efas WHERE sae_id = 'one' AND variant = 'lens'")
    tested = table.filter(pl.col("t").is_not_null())
    ranked = efas_ranking(rich, rich_run, "one", k=100)
    size = pl.col("t").abs()
    ordered = tested.sort(pl.col("q"), size, "feature_id", descending=[False, True, False])
    assert ranked["feature_id"].to_list() == ordered["feature_id"].to_list()
    layer = efas_by_layer(rich, rich_run).filter(pl.col("sae_id") == "one").row(0, named=True)
    assert layer["n_tested"] == len(tested)
    assert layer["rms_t"] == pytest.approx(np.sqrt((tested["t"].to_numpy() ** 2).mean()))
    sizes = np.abs(tested["efas"].to_numpy())  # what is not tested counts nowhere
    assert (layer["mean_abs_efas"], layer["max_abs_efas"]) == pytest.approx(
        (sizes.mean(), sizes.max())
    )
    assert layer["share_positive"] == pytest.approx((tested["within"].to_numpy() > 0).mean())
    histogram = efas_histogram(rich, rich_run, "one", n_bins=9)
    assert histogram["n"].sum() == len(tested) and histogram["n_null"].sum() > 0
    within = efas_histogram(rich, rich_run, "one", n_bins=9, of_within=True)
    counts, _ = np.histogram(
        tested["within"].to_numpy(), bins=[*within["low"].to_list(), within["high"][-1]]
    )
    assert within["n"].to_list() == counts.tolist() != histogram["n"].to_list()
    scatter = efas_scatter(rich, rich_run, "one", 7)
    row = table.filter(pl.col("feature_id") == 7).row(0, named=True)
    assert len(scatter) == row["n_active"]
    dose = np.corrcoef(scatter["activation"], scatter["g_lens"])[0, 1]
    assert row["dose"] == pytest.approx(dose, abs=1e-4)
    assert len(efas_scatter(rich, rich_run, "one", 7, k=5)) <= 5
    split = efas_split(rich, rich_run, "one", k=50)
    assert split["t_selected"].abs().is_sorted(descending=True)
