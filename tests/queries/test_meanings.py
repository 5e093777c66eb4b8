"""What features stand for, and what words lead to, against polars and Python over the tables."""

import re
from collections import Counter, defaultdict

import polars as pl
import pytest

from energylens.db.store import Store
from energylens.errors import QueryError
from energylens.queries.contexts import search_texts, search_tokens
from energylens.queries.display import visible_token
from energylens.queries.explanations import feature_meanings, search_features
from energylens.queries.filters import bare_words
from energylens.queries.frames import FeatureColumns, filtered
from energylens.queries.meanings import LEAST_SCORE, led_by, meant_by, told, with_meanings
from energylens.queries.ranked import MATCH, FeatureList
from energylens.queries.routing import anchor_tokens, routing_paths


def frame(store: Store, sql: str) -> pl.DataFrame:
    return pl.DataFrame(store.cursor().sql(sql).to_arrow_table())


def strongest(store: Store, sae: str) -> dict[int, list[str]]:
    """Tokens of each feature by the sum of the activations at its peaks."""
    peaks = frame(
        store,
        "SELECT feature_id, token, activation FROM top_contexts "
        f"JOIN tokens USING (run_id, token_index) WHERE sae_id = '{sae}'",
    )
    sums: dict[int, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for feature, token, activation in peaks.iter_rows():
        sums[feature][token] += activation
    return {
        feature: sorted(own, key=lambda token: (-round(own[token], 4), token))[:5]
        for feature, own in sums.items()
    }


def test_tokens_are_those_of_the_peaks_and_labels_come_first(rich: Store, rich_run: str) -> None:
    rows = feature_meanings(rich, rich_run, "one")
    by_hand = strongest(rich, "one")
    labels = dict(
        frame(
            rich,
            "SELECT feature_id, description FROM explanations WHERE is_label AND sae_id = 'one'",
        ).iter_rows()
    )
    stars = frame(rich, "SELECT feature_id FROM notes WHERE is_starred AND sae_id = 'one'")
    assert len(rows) == 48 and labels and len(stars) and len(by_hand) > 30
    for row in rows.iter_rows(named=True):
        feature = row["feature_id"]
        assert row["tokens"] == by_hand.get(feature), feature
        assert row["label"] == labels.get(feature)
        assert row["is_starred"] == (feature in stars["feature_id"].to_list())
    listed = pl.DataFrame({"feature_id": [3, 7, None, 9000, 11]})
    shown = with_meanings(rich, listed, FeatureColumns(rich_run, "one"))["label"].to_list()
    for feature, said in zip((3, 7, None, 9000, 11), shown, strict=True):
        tokens = by_hand.get(feature or -1)
        words = "on " + " ".join(map(visible_token, tokens)) if tokens else None
        assert said == labels.get(feature or -1, words)
    assert shown[0] == "even numbers" and (shown[1] or "").startswith("on "), "one of each kind"


def test_an_sae_that_is_not_there_tells_nothing(rich: Store, rich_run: str) -> None:
    rows = pl.DataFrame({"sae_id": ["one", "on", "'; --", None], "feature_id": [3, 3, 3, 3]})
    said = with_meanings(rich, rows, FeatureColumns(rich_run, None), into="x")["x"].to_list()
    assert said == ["even numbers", None, None, None]
    assert told(None, None) is None and told(None, [" a", "\n"]) == "on ␣a ⏎"


def test_a_word_leads_to_the_features_that_search_finds(rich: Store, rich_run: str) -> None:
    listed = FeatureList(rich, rich_run, "one")
    led = meant_by(rich, rich_run, "one", 'cat "even numbers" n_active>0')
    assert set(led["word"]) == {"cat", "even numbers"}
    for word in ("cat", "even numbers"):
        by_search = search_features(rich, rich_run, word, "one", 1000)
        sure = by_search.filter(pl.col("score") >= LEAST_SCORE)
        assert 0 < len(sure) <= len(by_search)
        assert led.filter(word=word)["feature_id"].to_list() == sure["feature_id"].to_list()
        only = meant_by(rich, rich_run, "one", f'"{word}"')
        left, total = listed.arrange(f'"{word}"', MATCH, only)
        assert (left, total) == (len(sure), 48)
        assert [row[0] for row in listed.rows(0, 1000)] == sure["feature_id"].to_list(), word
        left, _ = listed.arrange(f'-"{word}"', MATCH, only)
        assert left == 48 - len(sure)
    fifty = pl.DataFrame({"partner_id": range(48), "feature_id": [0] * 48})
    of = FeatureColumns(rich_run, "one", ("partner_id",))
    found = filtered(rich, fifty, "cat", {}, led_by(rich, "cat", of, None))
    assert set(found["partner_id"]) == set(led.filter(word="cat")["feature_id"])
    assert filtered(rich, fifty, "cat", {}).is_empty(), "the words stand in no column"


def test_a_category_leads_to_its_features_with_little_weight(rich: Store, rich_run: str) -> None:
    category = frame(rich, "SELECT any_value(category) FROM texts WHERE category <> ''").item()
    tops = dict(
        frame(
            rich, "SELECT feature_id, top_category FROM features WHERE sae_id = 'one'"
        ).iter_rows()
    )
    found = search_features(rich, rich_run, category, "one", 1000, 0.1)
    ids = set(found["feature_id"])
    assert {feature for feature, top in tops.items() if top and category in top} <= ids
    assert found["score"].min() >= 0.1  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("import", ["import"]),
        ("a -b a", ["a", "b"]),
        ('"new york" max > 5 label:x ""', ["new york"]),
    ],
)
def test_words_of_a_filter_are_those_that_compare_nothing(text: str, words: list[str]) -> None:
    assert bare_words(text) == words


def test_words_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(QueryError, match="cannot be read"):
        bare_words('a "')


_CLASSES = (
    (r"\s*[\r\n]+\s*", "line breaks"),
    (r"\s+", "white space"),
    (r"\s*\d+", "digits"),
    (r"\s*[.!?…]+", "ends of sentences"),
    (r"\s*[-+=,:;]+", "punctuation and symbols"),
    (r"\s+[A-Z].*", "words with a capital"),
    (r"\s+[a-z].*", "beginnings of words"),
    (r"[a-zA-Z].*", "insides of words"),
)


def class_of(token: str) -> str:
    return next((name for how, name in _CLASSES if re.fullmatch(how, token)), "other tokens")


def test_anchors_and_paths_tell_tokens_and_their_classes(rich: Store, rich_run: str) -> None:
    taken = anchor_tokens(rich, rich_run, k=5)
    for row in taken.iter_rows(named=True):
        assert row["classes"] == sorted({class_of(token) for token in row["tokens"]})
    assert len({name for names in taken["classes"] for name in names}) > 1
    examples = frame(rich, "SELECT first_layer, choices, example_tokens FROM routing_circuits")
    tokens = dict(frame(rich, "SELECT token_index, token FROM tokens").iter_rows())
    kept = {
        (first, tuple(choices)): Counter(tokens[index] for index in indexes)
        for first, choices, indexes in examples.iter_rows()
    }
    paths = routing_paths(rich, rich_run, k=1000)
    assert len(paths) == len(kept) > 0
    for row in paths.iter_rows(named=True):
        own = kept[row["first_layer"], tuple(row["choices"])]
        assert row["tokens"] == sorted(own, key=lambda token: (-own[token], token))[:5]
        assert row["classes"] == sorted({class_of(token) for token in row["tokens"]})


def test_words_lead_to_the_texts_and_tokens_that_hold_them(rich: Store, rich_run: str) -> None:
    texts = dict(frame(rich, "SELECT text_id, lower(text) FROM texts").iter_rows())
    counts = {number: text.count("cat") for number, text in texts.items() if "cat" in text}
    assert 1 < len(counts) < len(texts)
    found = search_texts(rich, rich_run, " CAT", k=1000)
    assert dict(found.select("text_id", "n_times").iter_rows()) == counts
    assert found["n_times"].is_sorted(descending=True)
    assert all("cat" in snippet.lower() for snippet in found["snippet"])
    listed = pl.DataFrame({"text_id": list(texts), "x": 0})
    left = filtered(rich, listed, "cat", {}, led_by(rich, "cat", None, rich_run))
    assert set(left["text_id"]) == set(counts)
    left = filtered(rich, listed, "-cat", {}, led_by(rich, "-cat", None, rich_run))
    assert set(left["text_id"]) == set(texts) - set(counts)
    tokens = Counter(frame(rich, "SELECT token FROM tokens")["token"])
    named = search_tokens(rich, rich_run, "A", k=1000)
    assert dict(named.select("token", "n").iter_rows()) == {
        token: n for token, n in tokens.items() if "a" in token.lower()
    }
    for nothing in ("", "  "):
        assert search_texts(rich, rich_run, nothing).is_empty()
        assert search_tokens(rich, rich_run, nothing).is_empty()
