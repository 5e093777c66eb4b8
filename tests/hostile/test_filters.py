"""What is typed into a filter bar: rows, or a sentence, over the store and over any frame."""

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energylens.db.store import Store
from energylens.errors import QueryError
from energylens.queries.frames import filtered
from energylens.queries.ranked import FEATURE_COLUMNS, FeatureList, Sort
from tests.hostile.conftest import N_CASES, odd_texts

columns = st.sampled_from([*FEATURE_COLUMNS, "max", "n_", "run of", "x", "a", "A", "id", "$1"])
parts = st.one_of(
    st.sampled_from([
        "-", "--", ">", ">=", "!=", ":", "~", "=", '"', '""', " ", "(", "[", "\\", "*", "nan",
        "-inf", "1e999", "0x10", "1_0", "٣", "$run", "filter_0", "NULL", "true", "(?=x)", "\\d+",
        "[[:alpha:]", "x{1001}", "(" * 300, "\\pN", "\\Q", "a" * 70_000,
    ]),
    columns, odd_texts,
)  # fmt: skip
filters = st.one_of(
    st.lists(parts, max_size=6).map("".join),
    st.builds(
        "{}{}{}{}".format, st.sampled_from(["", "-"]), columns,
        st.sampled_from([">", "=", "!=", "<=", ":", "~"]), parts,
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def listed(rich_store: Store) -> FeatureList:
    return FeatureList(rich_store, rich_store.runs[0].info.run_id, "one")


@settings(max_examples=N_CASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(filters)
def test_the_features_of_a_store(listed: FeatureList, text: str) -> None:
    try:
        left, total = listed.arrange(text, Sort("feature_id", False))
    except QueryError as error:
        assert str(error) and "unexpected" not in str(error)
        return
    assert 0 <= left <= total


FRAME = pl.DataFrame({
    "a": [1, None], "A": ["x", "\0"], "row of the frame": [0, 1], "run of": [True, None],
    "id": [2**63, 1], 'q"': [1.5, float("nan")], "": ["y", None], "$1": [[1], []],
    "day": [dt.date(1, 1, 1), None], "at": [dt.datetime(9999, 12, 31), None],
    "long": [dt.timedelta(days=99999), None], "money": [Decimal("1.10"), None],
    "bytes": [b"\xff", None], "deep": [{"x": [1]}, None], "none": [None, None],
    "kind": pl.Series(["p", None], dtype=pl.Categorical), "clock": [dt.time(1), None],
})  # fmt: skip
frame_columns = st.sampled_from([*FRAME.columns, "ro", "cl"])


@settings(max_examples=N_CASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    filters | st.builds(
        "{}{}{}".format, frame_columns, st.sampled_from([">", "=", "!=", ":", "~"]), parts
    ),
    st.sets(st.sampled_from(FRAME.columns), min_size=1),
)  # fmt: skip
def test_frames_of_any_columns(rich_store: Store, text: str, chosen: set[str]) -> None:
    rows = FRAME.select(sorted(chosen))
    try:
        found = filtered(rich_store, rows, text, {})
    except QueryError as error:
        assert str(error) and "unexpected" not in str(error)
        return
    assert found.columns == rows.columns and len(found) <= len(rows)


def test_columns_that_differ_in_case_are_each_their_own(rich_store: Store) -> None:
    rows = pl.DataFrame({"a": [1, 2], "A": [2, 1], "row of the frame": [1, 2]})
    assert filtered(rich_store, rows, "A > 1", {}).rows() == [(1, 2, 1)]
    assert filtered(rich_store, rows, "a > 1", {}).rows() == [(2, 1, 2)]


@pytest.mark.parametrize("text", ["\udcff", "label:\udcff", 'label~"\ud800"'])
def test_what_utf8_cannot_hold_is_said(listed: FeatureList, text: str) -> None:
    with pytest.raises(QueryError, match="UTF-8"):
        listed.arrange(text, Sort("feature_id", False))
