"""Whole stores whose truth is known: what is planted is found, and nothing where nothing is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from energylens.db.store import Store
from energylens.queries.catalog import open_catalog
from energylens.queries.coactivation import coactivation_partners, coactive_clusters, coactive_pairs
from energylens.queries.efas import efas_by_layer, efas_ranking, efas_split
from energylens.queries.features import coactive_features
from energylens.queries.routing import (
    anchor_features,
    anchor_specialization,
    path_tokens,
    routing_paths,
)
from energylens.queries.specialists import (
    find_specialists,
    ranked_specialists,
    specialist_categories,
)
from tests.synthetic import (
    CATEGORIES,
    NULLS,
    RUN,
    SAE,
    VALID,
    WINDOW,
    F,
    J,
    T,
    World,
    plant_efas,
    unrelated,
    write_world,
)

Build = Callable[[World], Store]


@pytest.fixture
def build(tmp_path: Path, gpt2_dir: Path) -> Build:
    def made(world: World) -> Store:
        return open_catalog(write_world(tmp_path / "world.lens", world, gpt2_dir))

    return made


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


@pytest.mark.parametrize("kind", NULLS)
def test_a_store_without_signal_shows_none(build: Build, kind: str) -> None:
    """At 400 features, three standard errors above 5 % are 8.5 %."""
    with build(unrelated(kind)) as store:
        found = efas_by_layer(store, RUN).row(0, named=True)
        assert found["n_tested"] > 300 and found["share_p05"] < 0.085
        assert found["n_discoveries"] <= 1 and found["n_familywise"] <= 1
        rows = frame(store, "SELECT * FROM efas WHERE variant = 'lens' AND t IS NOT NULL")
        for name in ("p_flip", "p_even", "p_odd"):
            assert (rows[name].drop_nulls() < 0.05).to_numpy().mean() < 0.1, name
        if "profile" in kind:
            assert (
                rows["p_adjusted"] < 0.05
            ).to_numpy().mean() > 0.5  # a line in position is not a profile
        by_category = frame(store, "SELECT p, q FROM efas_categories WHERE variant = 'lens'")
        assert (by_category["p"].drop_nulls() < 0.05).to_numpy().mean() < 0.085
        specialists = frame(store, "SELECT p, q FROM specialists")
        assert (specialists["p"] < 0.05).to_numpy().mean() < 0.06 and (
            specialists["q"] < 0.05
        ).to_numpy().sum() <= 1


@pytest.mark.parametrize(("strength", "least"), [(0.7, 2), (3.0, 12), (-3.0, 12)])
def test_planted_efas_is_recovered_with_its_sign(build: Build, strength: float, least: int) -> None:
    with build(plant_efas(unrelated("bursty+topic,ar+topic", seed=1), strength)) as store:
        ranked = efas_ranking(store, RUN, SAE, k=F)
        own = ranked.filter((pl.col("feature_id") < 20) & (pl.col("q") < 0.05))
        assert len(own) >= least
        assert (own["t"] * np.sign(strength) > 0).all()
        assert (own["within_low"] * own["within_high"] > 0).all()  # the interval leaves zero out
        split = efas_split(store, RUN, SAE, k=10)
        if abs(strength) == 3.0:
            assert set(ranked["feature_id"].head(12)) <= set(range(20))
            assert split["is_same_sign"].all()


def test_planted_specialists_are_recovered_at_their_category(build: Build) -> None:
    world = unrelated("iid")
    world.z[:, :8] = 0
    generator = np.random.default_rng(4)
    for f in range(8):
        inside = np.flatnonzero(world.category == f % 4)
        for window in [*inside[:18], *np.flatnonzero(world.category != f % 4)[: f // 4]]:
            world.z[window * T + 5 : window * T + 30, f] = 1 + generator.random(25)
    world.z[:, 8] = 0
    for window, level in zip(np.flatnonzero(world.category == 0), (4.0, 1.0, 0.9), strict=False):
        world.z[window * T : window * T + T, 8] = level
    world.z[:, 9] = np.where(WINDOW < 20, -1.0, 0.0)  # its strongest text is below zero
    with build(world) as store:
        for number, name in enumerate(CATEGORIES):
            best = ranked_specialists(store, RUN, SAE, name, k=2)
            assert best["feature_id"].to_list() == [number, number + 4]
            assert best["score"].to_list() == [18, 17] and best["q"].to_numpy().max() < 1e-6
            assert best["rate_in"].to_list() == [0.9, 0.9] and best["auroc"].to_numpy().min() > 0.9
        strong = frame(
            store, "SELECT n_strong_in, n_strong_out FROM specialists WHERE feature_id = 8"
        )
        assert set(strong.iter_rows()) == {(2, 0), (0, 2)}  # a quarter of the peak is strong
        below = find_specialists(store, RUN, SAE, threshold=1.0).filter(pl.col("feature_id") == 9)
        assert below["n_strong_in"].to_list() == below["n_strong_out"].to_list() == [0] * 4
        verdicts = specialist_categories(store, RUN)
        assert set(verdicts["verdict"]) == {"always"} and set(verdicts["best_layer"]) == {1}


def test_planted_groups_are_found_and_dense_features_kept_apart(build: Build) -> None:
    world = unrelated("iid")
    generator = np.random.default_rng(5)
    world.z[:, :11] = 0
    groups = [(0, 1, 2, 3), (4, 5, 6)]
    for group in groups:
        windows = generator.choice(J, 20, replace=False)
        tokens = generator.choice(np.flatnonzero(VALID & np.isin(WINDOW, windows)), 200, False)
        for f in group:
            kept = tokens[generator.random(200) < 0.9]
            world.z[kept, f] = 1 + generator.random(len(kept))
    for f in (8, 9):
        on = generator.random(J * T) < 0.95
        world.z[on, f] = 1
    for f, n in ((7, 504), (10, 505)):  # a tenth of the tokens that are not masked, and one more
        world.z[generator.choice(np.flatnonzero(VALID), n, replace=False), f] = 1
    with build(world) as store:
        clusters = coactive_clusters(store, RUN, SAE)
        assert [tuple(sorted(m)) for m in clusters["members"]] == groups
        pairs = coactive_pairs(store, RUN, SAE, k=9)
        inside = {(a, b) for group in groups for a in group for b in group if a < b}
        assert set(zip(pairs["feature_id"], pairs["partner_id"], strict=True)) == inside
        assert pairs["q"].to_numpy().max() < 0.05
        by_jaccard = coactive_features(store, RUN, SAE, 8, k=1).row(0, named=True)
        assert by_jaccard["feature_id"] == 9 and by_jaccard["jaccard"] > 0.85
        assert by_jaccard["is_dense"] and by_jaccard["lift"] == pytest.approx(1.0, abs=0.02)
        assert 9 not in coactivation_partners(store, RUN, SAE, 8, k=5)["partner_id"].to_list()
        for of, told in (("features", "feature_id"), ("coactivation", "partner_id")):
            dense = "is_dense" if of == "features" else "partner_is_dense"
            known = frame(
                store, f"SELECT DISTINCT {told}, {dense} FROM {of} WHERE {told} IN (7, 10)"
            )
            assert set(known.iter_rows()) == {(7, False), (10, True)}, of
        null = frame(store, "SELECT q FROM coactivation WHERE unit = 'token' AND feature_id > 10")
        assert (null["q"] < 0.05).to_numpy().mean() < 0.01


def walks(n_layers: int = 3) -> tuple[World, np.ndarray]:
    """Each layer's choice follows the token; a third of the tokens of five ids take one path."""
    world = unrelated("iid")
    generator = np.random.default_rng(6)
    by_token = generator.integers(0, 4, (n_layers, 50))
    choices = np.stack([layer[world.vocab_id] for layer in by_token], axis=1)
    loose = generator.random(choices.shape) < 0.5
    choices[loose] = generator.integers(0, 4, loose.sum())
    on_path = (world.vocab_id < 25) & (generator.random(J * T) < 0.25)
    choices[on_path] = [3, 1, 2]
    world.choices = choices
    return world, on_path


def test_a_planted_circuit_is_found_and_lexical_routing_is_not_taken_for_one(build: Build) -> None:
    world, on_path = walks()
    assert world.choices is not None
    world.z[:, 0] = np.where(world.choices[:, 1] == 1, 2.0, 0.0)
    chosen = np.flatnonzero(VALID & (world.choices[:, 1] == 2))
    for f, n, n_texts in ((1, 30, 10), (2, 29, 10), (3, 30, 9)):
        own = [chosen[WINDOW[chosen] == i % n_texts][i // n_texts] for i in range(n)]
        world.z[:, f] = 0
        world.z[own, f] = 1
    with build(world) as store:
        paths = routing_paths(store, RUN, over_layers=3)
        assert paths["choices"][0].to_list() == [3, 1, 2] and paths["t"][0] > 8
        assert paths["q"][0] < 1e-6 and paths["n_tokens"][0] >= (on_path & VALID).sum()
        found = frame(store, "SELECT * FROM routing_circuits WHERE n_layers = 2")
        assert found["markov_lift"].to_list() == pytest.approx([1.0] * len(found))
        examples = path_tokens(store, RUN, 0, [3, 1, 2])
        taken = world.choices[examples["token_index"].to_numpy()]
        assert len(examples) == 5 and (taken == [3, 1, 2]).all()
        best = anchor_features(store, RUN, SAE, at_layer=1).row(0, named=True)
        assert (best["feature_id"], best["choice_id"], best["precision"]) == (0, 1, 1.0)
        assert best["recall"] == 1.0 and best["q"] < 1e-6
        rows = "SELECT feature_id, t FROM routing_features WHERE layer = 1 AND choice_id = 2"
        t = dict(frame(store, f"{rows} AND feature_id IN (1, 2, 3)").iter_rows())
        assert (
            t[1] > 3 and t[2] is None and t[3] is None
        )  # thirty tokens in ten texts are the least
        rows = frame(store, "FROM routing_features WHERE layer = 1 AND t IS NOT NULL ORDER BY p")
        for row in rows.iter_rows(named=True):
            on = (world.z[VALID, row["feature_id"]] != 0).astype(float)
            goes = (world.choices[VALID, 1] == row["choice_id"]).astype(float)
            by_text = np.bincount(WINDOW[VALID], (on - on.mean()) * (goes - goes.mean()))
            expected = by_text.sum() / np.sqrt(np.square(by_text).sum())
            assert row["t"] == pytest.approx(expected, rel=1e-6)
        scaled = rows["p"].to_numpy() * F * 4 / np.arange(1, len(rows) + 1)  # all pairs were tried
        q = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1)
        np.testing.assert_allclose(rows["q"], q, rtol=1e-6)
        tells = anchor_specialization(store, RUN).filter(pl.col("label") == "token")
        assert tells["adjusted"].to_numpy().min() > 0.1 and tells["p"].to_numpy().max() < 0.01


def test_routing_by_the_token_alone_makes_no_circuit(build: Build) -> None:
    world, _ = walks()
    generator = np.random.default_rng(7)
    by_token = generator.integers(0, 4, (3, 50))
    choices = np.stack([layer[world.vocab_id] for layer in by_token], axis=1)
    loose = generator.random(choices.shape) < 0.5
    choices[loose] = generator.integers(0, 4, loose.sum())
    world.choices = choices
    with build(world) as store:
        found = frame(store, "SELECT * FROM routing_circuits")
        assert len(found) > 20 and (found["p"] < 0.05).to_numpy().mean() < 0.12
        assert (
            found["lift"].to_numpy().max() > 1.5
        )  # against independence they would all look like circuits
        assert (found["q"] < 0.05).to_numpy().sum() <= 1
        told = anchor_specialization(store, RUN)
        for label in ("category", "part", "energy", "category_given_token", "energy_given_token"):
            own = told.filter(pl.col("label") == label)
            assert (
                own["adjusted"].abs().to_numpy().max() < 0.03 and own["p"].to_numpy().min() > 0.004
            ), label


def test_routing_by_category_is_told_from_routing_by_token(build: Build) -> None:
    world = unrelated("iid")
    choices = np.stack([world.category[WINDOW], world.vocab_id % 4], axis=1)
    world.choices = choices
    with build(world) as store:
        told = anchor_specialization(store, RUN)
        by = {(r["layer"], r["label"]): r for r in told.iter_rows(named=True)}
        assert by[0, "category"]["normalized"] > 0.9 and by[0, "category"]["p"] < 0.01
        assert by[0, "category_given_token"]["normalized"] > 0.5
        assert abs(by[1, "category"]["adjusted"]) < 0.01
        assert by[1, "token"]["adjusted"] > 1.0
