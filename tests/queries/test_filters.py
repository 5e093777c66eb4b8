"""The filter grammar against the same conditions in polars, and paging."""

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energylens.db.store import Store
from energylens.errors import QueryError
from energylens.queries.filters import parse_filter
from energylens.queries.ranked import FEATURE_COLUMNS, FeatureList, Sort


@pytest.fixture
def frame(store: Store) -> pl.DataFrame:
    return pl.DataFrame(
        store.cursor().sql("SELECT * FROM features WHERE sae_id = 'resid'").to_arrow_table()
    )


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("", pl.lit(True)),
        ("n_active > 5", pl.col("n_active") > 5),
        ("n_active>5 density<=0.2", (pl.col("n_active") > 5) & (pl.col("density") <= 0.2)),
        ("top_category:ANIM", pl.col("top_category") == "animals"),
        ("category_that_is_not", pl.lit(False)),
        ("numbers", pl.col("top_category") == "numbers"),
        ('top_category~"^num"', pl.col("top_category") == "numbers"),
        ("-numbers", pl.col("top_category") != "numbers"),
        ("is_dense=yes", pl.col("is_dense")),
        ("category:anim", pl.col("top_category") == "animals"),
        ("max>1.5", pl.col("max_activation") > 1.5),
        ("feature_id != 3", pl.col("feature_id") != 3),
        ("sel > -1", pl.col("selectivity") > -1),
    ],
)
def test_filters_keep_what_polars_keeps(
    store: Store, run_id: str, frame: pl.DataFrame, text: str, condition: pl.Expr
) -> None:
    listed = FeatureList(store, run_id, "resid")
    left, total = listed.arrange(text, Sort("feature_id", False))
    expected = frame.filter(condition.fill_null(False) if text else condition)
    if text.startswith("-"):
        expected = frame.filter(condition.fill_null(True))
    assert (left, total) == (len(expected), len(frame))
    found = [row[0] for row in listed.rows(0, 1000)]
    assert found == sorted(expected["feature_id"].to_list())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing > 5", "no column 'nothing'"),
        ("n_ > 5", "could be n_active or n_texts"),
        ("density > much", "takes a number"),
        ('top_category~"("', "no regular expression"),
        ('top_category~"(?=x)"', "no regular expression: invalid perl operator"),
        ('"', "cannot be read"),
    ],
)
def test_filters_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        parse_filter(text, FEATURE_COLUMNS)


@given(st.text(max_size=40))
def test_no_text_breaks_the_parser_or_reaches_the_sql(text: str) -> None:
    try:
        condition = parse_filter(text, FEATURE_COLUMNS)
    except QueryError:
        return
    for value in condition.values.values():
        if isinstance(value, str) and len(value) > 12:
            assert value not in condition.sql


@pytest.mark.parametrize("column", FEATURE_COLUMNS)
@pytest.mark.parametrize("descending", [True, False])
def test_sorting_puts_nothing_last_and_pages_fit_together(
    store: Store, run_id: str, column: str, descending: bool
) -> None:
    listed = FeatureList(store, run_id, "mlp")
    left, _ = listed.arrange("", Sort(column, descending))
    rows = [row for first in range(0, left, 7) for row in listed.rows(first, first + 7)]
    assert len(rows) == left == len({row[0] for row in rows})
    values = [row[list(FEATURE_COLUMNS).index(column)] for row in rows]
    known = [value for value in values if value is not None]
    assert values[: len(known)] == known
    assert known == sorted(known, reverse=descending)
    assert listed.row_of(rows[11][0]) == 11


def test_a_feature_the_filter_leaves_out_has_no_row(store: Store, run_id: str) -> None:
    listed = FeatureList(store, run_id, "resid")
    listed.arrange("feature_id < 5", Sort())
    assert listed.row_of(9) is None


@pytest.mark.parametrize("term", ["word", "-word", "n_active>3", "-top_category:a"])
def test_a_filter_of_far_too_many_words_is_told(store: Store, run_id: str, term: str) -> None:
    listed = FeatureList(store, run_id, "resid")
    left, total = listed.arrange(" ".join([term] * 200), Sort())
    assert left == listed.arrange(term, Sort())[0] <= total
    with pytest.raises(QueryError, match="more than 200 words; leave some out"):
        listed.arrange(" ".join([term] * 201), Sort())


def test_a_word_is_looked_for_in_very_many_columns() -> None:
    names = {f"c{n}": "VARCHAR" for n in range(2500)}
    condition = parse_filter("x", names)
    con = duckdb.connect()
    con.execute("CREATE TABLE t AS SELECT " + ", ".join(f"'{n % 9}' AS c{n}" for n in range(2500)))
    asked = f"SELECT count(*) FROM t WHERE {condition.sql}"
    assert con.execute(asked, condition.values).fetchall() == [(0,)]
    assert con.execute(asked, {**condition.values, "filter_0": "8"}).fetchall() == [(1,)]
