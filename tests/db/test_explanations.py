"""Explanations: kept beside the shards, the best of a feature marked."""

import shutil
from pathlib import Path

import polars as pl
import pytest

from energylens.db.explanations import Explanation, read_explanations, write_explanations
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.merge import merge_stores
from energylens.db.verify import verify_store
from energylens.errors import StoreDamagedError
from energylens.queries.catalog import open_catalog
from energylens.queries.coactivation import coactivation_partners
from energylens.queries.contexts import token_features
from energylens.queries.efas import efas_ranking
from energylens.queries.explanations import explained_features, feature_explanations
from energylens.queries.ranked import FeatureList, Sort


@pytest.fixture
def path(store_path: Path, tmp_path: Path) -> Path:
    """A copy of the store that may be written to."""
    return Path(shutil.copytree(store_path, tmp_path / "explained.lens"))


@pytest.fixture
def run(path: Path) -> RunLayout:
    return StoreLayout(path).runs()[0]


def said(run: RunLayout, feature_id: int, text: str, score: float | None = None) -> Explanation:
    return Explanation(run.root.name, "mlp", feature_id, text, "auto", "a model", score)


def test_the_best_scored_is_the_label_and_reading_twice_changes_nothing(run: RunLayout) -> None:
    new = [said(run, 3, "first"), said(run, 3, "poor", 0.2), said(run, 3, "good", 0.7)]
    new += [said(run, 1, "one"), said(run, 1, "other")]
    write_explanations(run, "mlp", new)
    kept = read_explanations(run.explanations)
    assert [(e.feature_id, e.description) for e in kept if e.is_label] == [(1, "one"), (3, "good")]
    assert len(kept) == 5
    before = run.explanations.read_bytes()
    write_explanations(run, "mlp", new)
    assert run.explanations.read_bytes() == before
    write_explanations(run, "mlp", [said(run, 3, "poor", 0.9)])
    kept = read_explanations(run.explanations)
    assert len(kept) == 5, "a new score replaces the old one"
    assert {e.description for e in kept if e.is_label} == {"one", "poor"}


def test_another_saes_explanations_stay_when_one_is_replaced(run: RunLayout) -> None:
    other = Explanation(run.root.name, "resid", 3, "of the stream")
    write_explanations(run, "mlp", [said(run, 3, "old")])
    write_explanations(run, "resid", [other])
    write_explanations(run, "mlp", [said(run, 4, "new")], is_replacing=True)
    kept = [(e.sae_id, e.feature_id) for e in read_explanations(run.explanations)]
    assert kept == [("mlp", 4), ("resid", 3)]


def test_lists_show_labels_and_find_them(path: Path, run: RunLayout) -> None:
    name = run.root.name
    hostile = "[bold]open[/] 'bracket'; -- déjà"
    with open_catalog(path) as store:
        partners = coactivation_partners(store, name, "mlp", 3, k=1000)
        assert partners["label"].null_count() == len(partners), "before any is read"
    partner = int(partners["partner_id"][0])
    write_explanations(
        run,
        "mlp",
        [
            said(run, 3, hostile, 2.0),
            said(run, 3, "worse", -1.0),
            said(run, partner, "with it", 1.0),
        ],
    )
    with open_catalog(path) as store:
        listed = FeatureList(store, name, "mlp")
        with_labels, total = listed.arrange('label~"."', Sort("feature_id", descending=False))
        assert (with_labels, listed.arrange("", Sort())[1]) == (2, total)
        assert listed.arrange('label:"OPEN[/] \'b"', Sort())[0] == 1
        assert listed.arrange("", Sort())[0] == total, "a feature stands in the list once"
        assert dict(feature_explanations(store, name, "mlp", 3)["score"].value_counts().rows()) == {
            2.0: 1,
            -1.0: 1,
        }
        found = explained_features(store, name, "BRACKET|with")
        assert found["feature_id"].to_list() == [3, partner], "the best scored first"
        again = coactivation_partners(store, name, "mlp", 3, k=1000)
        assert again.drop("label").equals(partners.drop("label"))
        labels = again.filter(pl.col("label").is_not_null())
        assert labels["label"].to_list() == ["with it"]
        ranking = efas_ranking(store, name, "mlp", k=10_000)
        assert ranking["feature_id"].is_unique().all()
        tokens = token_features(store, name, 17, k=10_000)
        assert not tokens.select("sae_id", "feature_id").is_duplicated().any()
    assert verify_store(path) == []


def test_explanations_are_merged(path: Path, run: RunLayout, tmp_path: Path) -> None:
    other = tmp_path / "other.lens"
    merge_stores(other, [path])
    assert not StoreLayout(other).runs()[0].explanations.exists()
    write_explanations(run, "mlp", [said(run, 3, "here", 0.1)])
    write_explanations(StoreLayout(other).runs()[0], "mlp", [said(run, 3, "there", 0.5)])
    merge_stores(path, [other])
    kept = {e.description: e.is_label for e in read_explanations(run.explanations)}
    assert kept == {"here": False, "there": True}


def test_a_damaged_file_of_explanations_is_named(path: Path, run: RunLayout) -> None:
    run.explanations.write_bytes(b"no parquet")
    with pytest.raises(StoreDamagedError, match="restore it from a copy"):
        read_explanations(run.explanations)
    assert "restore it from a copy" in verify_store(path)[0].what
