"""Filters over frames in memory, against polars."""

from datetime import date

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energylens.errors import QueryError
from energylens.queries.frames import filtered


class Memory:
    """A reader on a database of its own."""

    def __init__(self) -> None:
        self._con = duckdb.connect()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        return self._con.cursor()


FRAME = pl.DataFrame(
    {
        "feature_id": [3, 1, 2, 9],
        "auroc": [0.5, None, 0.9, 0.7],
        "top_category": ["math", "Maths", None, "code"],
        "is_dense": [True, False, None, False],
        "members": [[1, 2], [30], [], None],
        'odd" OR true --': [1, 2, 3, 4],
        "day": [date(2026, 1, d) for d in (1, 2, 3, 4)],
    }
)
TITLES = {"AUROC": "auroc", "category": "top_category", "in": "feature_id"}


def left(text: str, frame: pl.DataFrame = FRAME) -> list[int]:
    return filtered(Memory(), frame, text, TITLES).to_series(0).to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [3, 1, 2, 9]),
        ("math", [3, 1]),
        ("auroc > 0.6", [2, 9]),
        ("AUROC<=0.7", [3, 9]),
        ("category:MATH in < 3", [1]),
        ('category~"^m"', [3]),
        ("dense=yes", [3]),
        ("-dense=yes", [1, 2, 9]),
        ("members:30", [1]),
        ('day:"01-03"', [2]),
        ("day >= 2026-01-03", [2, 9]),
        ("day < 0", []),
        ("members >= 0", [3, 1, 2]),
        ("-math", [2, 9]),
    ],
)
def test_rows_that_are_left_keep_their_order(text: str, expected: list[int]) -> None:
    assert left(text) == expected


def test_a_column_is_a_name_whatever_it_is_called() -> None:
    rows = pl.DataFrame({'odd" OR true --': [1, 2, 3, 4]})
    assert left("3", rows) == [3], "frames without text are searched in every column"
    assert left("odd >= 3", rows) == [3, 4]


def test_what_is_left_is_of_the_frames_own_types() -> None:
    found = filtered(Memory(), FRAME, "auroc > 0.6", TITLES)
    assert found.schema == FRAME.schema
    assert found.equals(FRAME.filter(pl.col("auroc") > 0.6))
    assert filtered(Memory(), FRAME.clear(), "math", TITLES).schema == FRAME.schema


@given(st.text(alphabet="maxdy<>=:~\"- 09.()[]?%'éx", max_size=20))
def test_any_text_leaves_rows_of_the_frame_or_says_what_is_wrong(text: str) -> None:
    try:
        found = left(text)
    except QueryError:
        return
    assert [value for value in FRAME["feature_id"] if value in found] == found
