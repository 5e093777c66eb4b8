"""Statements under a cursor, their form, and places of errors, against DuckDB itself."""

import re
from contextlib import suppress

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from energylens.db.store import Store
from energylens.errors import QueryError
from energylens.queries.adhoc import ask
from energylens.queries.editing import formatted, place_of_error, statement_at

STATEMENTS = (
    "SELECT a, 'x;y' FROM t",
    "FROM query(run := 'r', sae := 's') SELECT max(q)",
    "WITH t AS (FROM codes) SELECT feature_id, sum(activation) FROM t GROUP BY ALL",
    "PIVOT texts ON category USING count(*)",
    "SELECT \"a;b\", $$c;d$$, [1, 2][1], {'a': 1}.a -- e;f",
    "SELECT 'ä', \"Ü\" /* ; */ FROM t",
)


@given(st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=4), st.data())
def test_the_statement_of_a_cursor_is_the_one_around_it(given_: list[str], data: st.DataObject):
    text = "\n;\n".join(given_)
    which = data.draw(st.integers(0, len(given_) - 1))
    begin = len("\n;\n".join([*given_[:which], ""])) if which else 0
    offset = begin + data.draw(st.integers(0, len(given_[which])))
    start, end = statement_at(text, offset)
    assert text[start:end] == given_[which]


@pytest.mark.parametrize(
    ("text", "offset", "found"),
    [
        ("", 0, ""), ("  ;  ", 5, ""), ("SELECT 1;", 9, "SELECT 1"),
        ("SELECT 1; \n", 11, "SELECT 1"),
        ("SELECT 1; SELECT 2", 8, "SELECT 1"), ("SELECT 1; SELECT 2", 9, "SELECT 2"),
        ("SELECT 'open; ", 14, "SELECT 'open;"),
    ],
)  # fmt: skip
def test_ends_and_nothing(text: str, offset: int, found: str) -> None:
    start, end = statement_at(text, offset)
    assert text[start:end] == found


@given(st.lists(st.sampled_from(STATEMENTS), min_size=1, max_size=3))
def test_what_is_formatted_says_the_same_to_duckdb(given_: list[str]) -> None:
    text = "\n;\n".join(given_)
    found = formatted(text)
    assert formatted(found) == found

    def trees(sql: str) -> list[str]:
        con = duckdb.connect()
        return [
            str(con.execute("SELECT json_serialize_sql(?)", [one.query]).fetchall()[0][0])
            for one in con.extract_statements(sql)
        ]

    def placeless(tree: str) -> str:
        return re.sub(r'"query_location(_length)?":\d+', "", tree)

    assert [placeless(t) for t in trees(found)] == [placeless(t) for t in trees(text)]


def test_long_statements_are_broken_into_lines_and_names_keep_their_capitals() -> None:
    columns = ", ".join(f"Column_{n}" for n in range(12))
    found = formatted(f"select {columns} FROM Texts order by 1")
    assert max(map(len, found.splitlines())) <= 88 and len(found.splitlines()) > 10
    assert "Column_11" in found and "Texts" in found


@pytest.mark.parametrize("text", ["SELECT (1", "SELECT {% if x %} 1", "SELECT 'open", "\0", "{{"])
def test_what_cannot_be_formatted_is_a_sentence_or_stays(text: str) -> None:
    try:
        assert formatted(text).lower().split() == text.lower().split()
    except QueryError as error:
        assert "cannot be formatted" in str(error)


@given(st.one_of(st.text(max_size=40), st.text("(){}[],;'\"$-*/#%@:=.\n \t aS1_", max_size=40)))
@example("")
@example(" \n")
def test_any_text_is_formatted_or_refused_with_a_sentence(text: str) -> None:
    with suppress(QueryError):
        formatted(text)


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("SELECT nope FROM t", "nope"),
        ("SELECT a,\n  'é', nope\nFROM t", "nope"),
        ("SELECT " + "a, " * 80 + "nope, " + "a, " * 80 + "a FROM t", "nope"),
        ("FROM tt", "tt"),
        ("SELECT a FRM t WHERE", "t WHERE"),
    ],
)
def test_an_error_is_where_duckdb_points(statement: str, word: str) -> None:
    con = duckdb.connect()
    con.execute("CREATE TABLE t (a INTEGER)")
    with pytest.raises(duckdb.Error) as raised:
        con.execute(statement)
    place = place_of_error(str(raised.value), statement)
    assert place is not None
    assert statement.split("\n")[place.line][place.column :].startswith(word)


def test_a_users_statement_is_refused_with_the_place(store: Store) -> None:
    for before in ("", "\n" * 8, "\n" * 9, "-- a comment\n"):
        statement = f"{before}SELECT 1,\n  nope FROM texts"
        with pytest.raises(QueryError, match="nope") as raised:
            ask(store, statement)
        place = place_of_error(str(raised.value), statement)
        assert place is not None
        assert statement.split("\n")[place.line][place.column :].startswith("nope")


def test_an_error_without_a_place_has_none() -> None:
    assert place_of_error("the query was stopped", "SELECT 1") is None
    assert place_of_error("x\nLINE 9: SELECT\n        ^", "SELECT 1") is None
    assert place_of_error("x\nLINE 1: ...other\n           ^", "SELECT 1") is None
