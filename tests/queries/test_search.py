"""Features found by words: every part of the score against polars over the tables."""

import polars as pl
import pytest

from energylens.db.store import Store
from energylens.errors import UnknownNameError
from energylens.queries.explanations import search_features
from energylens.queries.face import OpenStore
from tests.cli.test_cli import run

WORDS = "Cat"


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


def expected(store: Store) -> dict[tuple[str, int], float]:
    """Scores without explanations."""
    word = WORDS.lower()
    peaks = frame(
        store,
        "SELECT c.sae_id, c.feature_id, t.token, x.text, t.char_start FROM top_contexts c "
        "JOIN tokens t USING (run_id, token_index) JOIN contexts w ON w.run_id = c.run_id "
        "AND w.context_id = c.context_id JOIN texts x ON x.run_id = c.run_id "
        "AND x.text_id = w.text_id",
    )
    scores: dict[tuple[str, int], float] = {}
    for (sae_id, feature_id), rows in peaks.group_by("sae_id", "feature_id"):
        tokens = [word in token.lower() for token in rows["token"]]
        near = [
            at is not None and word in text[max(at - 40, 0) : max(at - 40, 0) + 80].lower()
            for text, at in rows.select("text", "char_start").iter_rows()
        ]
        share = sum(tokens) / len(tokens) + sum(near) / len(near) / 2
        scores[str(sae_id), int(str(feature_id))] = share
    promoted = frame(store, "FROM feature_logits WHERE direction = 'top'")
    has_word = promoted["token"].str.to_lowercase().str.contains(word, literal=True)
    first = promoted.filter(has_word).group_by("sae_id", "feature_id").agg(pl.col("rank").min())
    for sae_id, feature_id, rank in first.iter_rows():
        scores[sae_id, feature_id] = scores.get((sae_id, feature_id), 0.0) + 0.5 / (1 + rank)
    return {key: score for key, score in scores.items() if score > 0}


def test_tokens_contexts_and_promoted_tokens_add_up(rich: Store, rich_run: str) -> None:
    said = frame(rich, "FROM explanations WHERE contains(lower(description), 'cat')")
    explained = set(said.select("sae_id", "feature_id").iter_rows())
    found = search_features(rich, rich_run, f" {WORDS} ", k=1000)
    scores = {(r["sae_id"], r["feature_id"]): r["score"] for r in found.iter_rows(named=True)}
    by_hand = expected(rich)
    assert scores.keys() == by_hand.keys() | explained and len(by_hand) > 20
    for key, score in by_hand.items():
        if key not in explained:
            assert scores[key] == pytest.approx(score, rel=1e-6), key
    assert found["score"].is_sorted(descending=True)
    assert set(search_features(rich, rich_run, WORDS, in_sae="one")["sae_id"]) == {"one"}


def test_what_is_said_comes_first_whatever_the_order_of_its_words(
    rich: Store, rich_run: str
) -> None:
    first = search_features(rich, rich_run, "NUMBERS even").row(0, named=True)
    assert (first["sae_id"], first["feature_id"], first["said"]) == ("one", 3, "even numbers")
    assert first["label"] == "even numbers" and first["score"] >= 1


@pytest.mark.parametrize(
    "words", ["", "  ", "nowhere in the texts", "c%t", "' OR 1=1 --", "(cat|dog)", "c.t"]
)
def test_words_are_no_pattern_and_no_sql(rich: Store, rich_run: str, words: str) -> None:
    assert search_features(rich, rich_run, words).is_empty()


def test_the_command_and_the_python_face(rich: Store, rich_run: str) -> None:
    path = rich.layout.root
    told = run("search", path, "even numbers", "--run", rich_run, "-k", "1", "-f", "csv").stdout
    assert "even numbers" in told and len(told.splitlines()) == 2
    with OpenStore(path) as opened:
        found = opened.search("even numbers", run=rich_run, k=1)
        assert found["said"].to_list() == ["even numbers"]
        with pytest.raises(UnknownNameError):
            opened.search("even", sae="nothing")
    assert "nearest" in run("search", path, "even", "--sae", "onee", code=2).stderr
