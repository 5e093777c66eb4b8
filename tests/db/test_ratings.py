"""Ratings and scores: one of a key, the later of two copies, and what stands in SQL beside them."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.merge import merge_stores
from energylens.db.ratings import SCALES, Rating, read_ratings, write_rating
from energylens.db.scores import ExplanationScore, read_scores, write_scores
from energylens.db.verify import verify_store
from energylens.errors import UnknownNameError, UsageError
from energylens.queries.catalog import open_catalog
from energylens.queries.explanations import scored_explanations
from energylens.queries.ratings import keep_rating, rated_features, rating_agreement, ratings_of


@pytest.fixture
def path(store_path: Path, tmp_path: Path) -> Path:
    """A copy of the store that may be written to."""
    return Path(shutil.copytree(store_path, tmp_path / "rated.lens"))


@pytest.fixture
def run(path: Path) -> RunLayout:
    return StoreLayout(path).runs()[0]


def rating(run: RunLayout, feature: int, rater: str, *numbers: int) -> Rating:
    one, two, three, four = numbers
    return Rating(run.root.name, "mlp", feature, rater, one, two, three, four)


def test_a_raters_last_word_counts_and_others_stay(path: Path, run: RunLayout) -> None:
    for one in ((3, "ada", 1, 1, 1, 1), (3, "bob", 3, 5, 3, 3), (3, "ada", 2, 4, 1, 0)):
        write_rating(run, rating(run, *one))
    kept = read_ratings(run)
    assert [(r.rater, r.confidence, r.consistency) for r in kept] == [("ada", 2, 4), ("bob", 3, 5)]
    with open_catalog(path) as store:
        row = rated_features(store, run.root.name).row(0, named=True)
        assert [r.rater for r in ratings_of(store, run.root.name, "mlp", 3)] == ["ada", "bob"]
    assert (row["n_raters"], row["confidence"], row["total"]) == (2, 2.5, (7 + 14) / 2)
    assert not verify_store(path)


@pytest.mark.parametrize("scale", range(4))
def test_numbers_outside_their_scale_are_refused(run: RunLayout, scale: int) -> None:
    for wrong in (-1, list(SCALES.values())[scale] + 1):
        numbers = [0, 0, 0, 0]
        numbers[scale] = wrong
        with pytest.raises(UsageError, match=rf"{list(SCALES)[scale]} is rated from 0 to"):
            write_rating(run, rating(run, 1, "ada", *numbers))
    with pytest.raises(UsageError, match="the name of who rates"):
        write_rating(run, rating(run, 1, " ", 0, 0, 0, 0))
    assert not run.ratings.exists()


def test_agreement_is_the_kappa_of_scikit_learn(path: Path, run: RunLayout) -> None:
    draw = np.random.default_rng(5)
    rated = {name: np.array([[draw.integers(0, most + 1) for most in SCALES.values()]
                             for _ in range(12)]) for name in ("ada", "bob")}  # fmt: skip
    for name, numbers in rated.items():
        for feature, row in enumerate(numbers):
            write_rating(run, rating(run, feature, name, *map(int, row)))
    with open_catalog(path) as store:
        rows = {r["scale"]: r for r in rating_agreement(store, run.root.name).iter_rows(named=True)}
    assert len(rows) == 5
    for place, (scale, most) in enumerate(SCALES.items()):
        x, y = rated["ada"][:, place], rated["bob"][:, place]
        known = cohen_kappa_score(x, y, weights="quadratic", labels=list(range(most + 1)))
        assert rows[scale]["weighted_kappa"] == pytest.approx(known)
        assert rows[scale]["mean_difference"] == pytest.approx((y - x).mean())
        assert rows[scale]["share_equal"] == pytest.approx((y == x).mean())


def test_a_first_rating_is_seen_in_the_open_store(path: Path, run: RunLayout) -> None:
    with open_catalog(path) as store:
        assert rated_features(store, run.root.name).is_empty()
        keep_rating(store, rating(run, 2, "ada", 1, 2, 3, 0))
        assert rated_features(store, run.root.name)["total"].to_list() == [6.0]


def test_scores_of_one_feature(path: Path, run: RunLayout) -> None:
    for sae, feature in (("mlp", 3), ("mlp", 4), ("resid", 3)):
        write_scores(run, [ExplanationScore(run.root.name, sae, feature, "a", "m", "w", "told")])
    with open_catalog(path) as store:
        rows = scored_explanations(store, run.root.name, "mlp", 3)
        assert rows["sae_id", "feature_id"].rows() == [("mlp", 3)]
        with pytest.raises(UnknownNameError, match="no feature 40 in the SAE 'mlp'"):
            scored_explanations(store, run.root.name, "mlp", 40)
        with pytest.raises(UnknownNameError, match="resid"):
            scored_explanations(store, run.root.name, feature=3)


def test_merge_keeps_the_later_of_each(path: Path, run: RunLayout, tmp_path: Path) -> None:
    other = StoreLayout(Path(shutil.copytree(path, tmp_path / "other.lens"))).runs()[0]
    score = ExplanationScore(run.root.name, "mlp", 3, "a", "m", "w", "detection", "j", 0.5)
    write_rating(run, rating(run, 1, "ada", 0, 0, 0, 0))
    write_scores(run, [score])
    write_rating(other, rating(other, 1, "ada", 3, 3, 3, 3))
    write_rating(other, rating(other, 1, "bob", 1, 1, 1, 1))
    write_scores(other, [ExplanationScore(**{**vars(score), "score": 0.9})])
    for source, target in ((other, run), (run, other)):
        merge_stores(target.root.parents[1], [source.root.parents[1]])
        kept = [(r.rater, r.confidence) for r in read_ratings(target)]
        assert kept == [("ada", 3), ("bob", 1)]
        assert [s.score for s in read_scores(target)] == [0.9]
    with open_catalog(path) as store:
        assert scored_explanations(store, run.root.name)["score"].to_list() == [0.9]
