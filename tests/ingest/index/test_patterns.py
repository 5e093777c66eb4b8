"""Patterns of tokens: planted ones are found with the right numbers, and label features."""

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from scipy import stats

from energylens.db.explanations import Explanation
from energylens.db.patterns import TOKEN_CLASS
from energylens.ingest.index.statements import statement
from tests.nulls.memory import Memory
from tests.nulls.worlds import world
from tests.synthetic import CATEGORIES, RUN, SAE, Layout, World

LAYOUT = Layout("bundled", 120, "bundled", 64, (0.5, 0.3, 0.15, 0.05))
OWN, BEFORE, PAIR, PLACE, CATEGORY, NONE = range(6)


@pytest.fixture(scope="module")
def planted() -> World:
    """Six features that fire where a thing stands, most of the time, and weakly here and there."""
    found = world(LAYOUT, 0)
    places, vocab = found.places, np.asarray(found.vocab_id)
    before = np.where(places.position > 0, np.roll(vocab, 1), -1)
    generator = np.random.default_rng(1)
    where = [
        np.isin(vocab, (3, 5)), before == 2, (before == 0) & (vocab == 1), places.position < 8,
        places.category[places.text] == 1, generator.random(len(vocab)) < 0.1,
    ]  # fmt: skip
    found.z[:] = 0
    for feature, fires in enumerate(where):
        is_on = fires & (generator.random(len(vocab)) < 0.9)
        found.z[is_on, feature] = 1 + generator.random(int(is_on.sum()))
        is_weak = ~fires & (generator.random(len(vocab)) < 0.05)
        found.z[is_weak, feature] = 0.1
    return found


@pytest.fixture(scope="module")
def memory(planted: World) -> Memory:
    memory = Memory()
    memory.fill({RUN: planted})
    memory.index({RUN: planted}, ("patterns",))
    return memory


@pytest.fixture(scope="module")
def rows(memory: Memory) -> pl.DataFrame:
    found = memory.cursor().sql("FROM feature_patterns WHERE feature_id < 6 ORDER BY feature_id")
    return pl.DataFrame(found.to_arrow_table())


def test_what_was_planted_is_found_and_nothing_else(rows: pl.DataFrame) -> None:
    assert rows["slot"].to_list()[:NONE] == ["token", "before", "pair", "position", "category"]
    assert (rows["q"][:NONE] < 0.001).all() and (rows["recall"][:NONE] > 0.8).all()
    assert rows["description"].is_null().to_list() == [False] * NONE + [True]
    assert rows["description"][PLACE] == "positions below 8"
    assert rows["description"][BEFORE].startswith("after ")
    assert rows["description"][PAIR].startswith("the end of ")
    assert rows["description"][CATEGORY] == f"texts of {CATEGORIES[1]}"
    assert len(rows["values"][OWN]) == 2 and len(rows["values"][PAIR]) == 1


def test_scores_equal_numpys(planted: World, memory: Memory, rows: pl.DataFrame) -> None:
    """Recall and false positives over the tokens of the other half, counted one by one."""
    others = memory.cursor().execute("SELECT text_id FROM pattern_texts WHERE half = 1")
    is_other = np.isin(planted.places.text, np.asarray(others.fetchnumpy()["text_id"]))
    is_text = is_other & (planted.places.valid)
    z, vocab = planted.z[:, OWN], np.asarray(planted.vocab_id)
    is_strong, is_silent = is_text & (z >= 0.25 * z.max()), is_text & (z == 0)
    is_found = np.isin(vocab, (3, 5))
    row = rows.row(OWN, named=True)
    recall, wrong = is_found[is_strong].mean(), is_found[is_silent].mean()
    assert row["n_strong"] == is_strong.sum()
    assert row["n_texts"] == len(np.unique(planted.places.text[is_strong]))
    assert row["recall"] == pytest.approx(recall)
    assert row["false_positive_rate"] == pytest.approx(wrong)
    assert row["precision"] == pytest.approx(recall / (recall + wrong))
    assert row["balanced_accuracy"] == pytest.approx((1 + recall - wrong) / 2)
    left_out = [
        is_found[is_strong & (planted.places.text != t)].mean()
        - is_found[is_silent & (planted.places.text != t)].mean()
        for t in np.unique(planted.places.text[is_text])
    ]
    sizes = np.bincount(planted.places.text[is_strong])
    n = sizes.sum() ** 2 / np.square(sizes).sum()
    spread = np.square(np.array(left_out) - (recall - wrong)).sum()
    t = (recall - wrong) / np.sqrt(spread * (n - 1) / n)
    assert row["p"] == pytest.approx(max(stats.t.sf(t, n - 1), 0.5**n), rel=1e-6)


def test_patterns_are_labels_where_nobody_said_better(memory: Memory) -> None:
    said = Explanation(RUN, SAE, OWN, "somebody's words", is_label=True)
    row = {name: [value] for name, value in vars(said).items()}
    memory._show({"explanations": pa.table({k: v for k, v in row.items() if v != [None]})})
    found = memory.cursor().sql(
        "FROM explanations WHERE feature_id < 5 ORDER BY feature_id, is_label DESC"
    )
    rows = pl.DataFrame(found.to_arrow_table())
    own = rows.filter(pl.col("feature_id") == OWN)
    assert own["method"].to_list() == ["", "tokens"] and own["is_label"].to_list() == [True, False]
    others = rows.filter(pl.col("feature_id") != OWN)
    assert others["is_label"].all() and (others["method"] == "tokens").all()
    assert (others["score"] > 0.8).all()


def test_every_token_has_a_class() -> None:
    pieces = {
        "\n\n": "line breaks", "  ": "white space", " 42": "digits", " (": "opening brackets",
        "]": "closing brackets", ' "': "quotation marks", ".": "ends of sentences",
        " +=": "punctuation and symbols", "HTML": "capitals", " Paris": "words with a capital",
        " the": "beginnings of words", "ing": "insides of words", "\\xe2": "other tokens",
        "Über": "insides of words", " 한": "beginnings of words",
    }  # fmt: skip
    with duckdb.connect() as con:
        con.execute(TOKEN_CLASS)
        con.execute("CREATE TABLE tokens (run_id VARCHAR, vocab_id INTEGER, token VARCHAR)")
        con.executemany(
            "INSERT INTO tokens VALUES ('r', ?, ?)", [list(row) for row in enumerate(pieces)]
        )
        con.execute(statement("pattern_vocabulary"), {"run_id": "r"})
        found = con.execute("SELECT token, class FROM pattern_vocabulary").fetchall()
    assert dict(found) == pieces
