"""Every type DuckDB can return, in every format; checked against the text DuckDB writes."""

import io
import json
import math
import re
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

from energylens.queries.display import visible
from energylens.queries.values import fetch
from energylens.queries.writing import Format, as_text, write_file

_BIG = "340282366920938463463374607431768211455"
EXTREMES = {
    "INTERVAL": ["INTERVAL '1 day'", "INTERVAL '-178956970 years'"],
    "DATE": [
        "'2024-02-29'",
        "'infinity'",
        "'-infinity'",
        "'5877642-06-25 (BC)'",
        "'5881580-07-10'",
    ],
    "TIME": ["'12:34:56.789'", "'24:00:00'", "'00:00:00'"],
    "TIME_NS": ["'12:34:56.789123456'", "'24:00:00'"],
    "TIMETZ": ["'12:34:56+05:30'", "'24:00:00-15:59:59'"],
    "TIMESTAMP": [
        "'2024-02-29 12:00:00'",
        "'infinity'",
        "'-infinity'",
        "'290309-12-22 (BC) 00:00'",
    ],
    "TIMESTAMP_S": ["'2024-02-29 12:00:00'", "'infinity'"],
    "TIMESTAMP_MS": ["'2024-02-29 12:00:00.123'", "'infinity'"],
    "TIMESTAMP_NS": ["'2024-02-29 12:00:00.123456789'", "'infinity'", "'1677-09-22'"],
    "TIMESTAMPTZ": ["'2024-02-29 12:00:00+02'", "'infinity'", "'290309-12-22 (BC) 00:00+00'"],
    "TIMESTAMPTZ_NS": ["'2024-02-29 12:00:00.123456789+00'"],
    "HUGEINT": ["7", "170141183460469231731687303715884105727", f"-{_BIG[:38]}"],
    "UHUGEINT": ["7", _BIG],
    "BIGNUM": ["7", f"'{_BIG * 3}'"],
    "UBIGINT": ["7", "18446744073709551615"],
    "DOUBLE": ["0.1", "'nan'", "'inf'", "'-inf'", "1e308"],
    "FLOAT": ["0.5", "'nan'", "'inf'"],
    "DECIMAL(38, 10)": ["1.5", "9999999999999999999999999999.9999999999"],
    "BIT": ["'1'", "'0101010100000'"],
    "BLOB": ["'a'", r"'\xFF\x00\x1B'"],
    "UUID": ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"],
    "ENUM('a', 'b')": ["'a'", "'b'"],
    "JSON": ["'[1]'", "'{\"a\": null}'"],
    "VARIANT": ["1", "[1, 2]"],
    "GEOMETRY": ["'POINT(1 2)'"],
    "VARCHAR": ["''", "'NULL'", r"'\x1b]0;'", "chr(27) || chr(155) || chr(8238)"],
    "UNION(n INTEGER, s VARCHAR)": ["union_value(n := 2)"],
    "MAP(VARCHAR, INTEGER)": ["MAP {'a': 1}", "MAP {}"],
    "INTEGER[][]": ["[[1], [2, NULL], NULL, []]"],
    "INTEGER[3]": ["[1, NULL, 3]"],
    "STRUCT(a INTEGER, b VARCHAR)": ["{'a': 1, 'b': 'x'}", "{'a': NULL, 'b': NULL}"],
    "STRUCT(a HUGEINT, b INTERVAL, c DATE[], d MAP(INTEGER, BLOB))": [
        "{'a': 1, 'b': INTERVAL 1 DAY, 'c': ['infinity'::DATE], 'd': MAP {1: 'x'::BLOB}}"
    ],
    "UNION(n INTEGER)[]": ["[union_value(n := 2)]"],
}
"""Typical and extreme values by type; NULL goes with each."""


def _frames() -> list[tuple[str, pl.DataFrame, list[str | None]]]:
    """For every type: its name, the frame of its values, and DuckDB's own text of each."""
    found = []
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        columns = con.sql("FROM test_all_types()").columns
        cases = {f"test_all_types {c}": f'SELECT "{c}" AS x FROM test_all_types()' for c in columns}
        for kind, values in EXTREMES.items():
            rows = ", ".join(f"(CAST({v} AS {kind}))" for v in [*values, "NULL"])
            cases[kind] = f"SELECT x FROM (VALUES {rows}) AS t(x)"
        for name, sql in cases.items():
            texts = [t for (t,) in con.sql(f"SELECT x::VARCHAR FROM ({sql})").fetchall()]
            found.append((name, fetch(con.sql(sql), None), texts))
    return found


FRAMES = _frames()
IDS = [name for name, _, _ in FRAMES]


def test_every_type_of_duckdb_is_tried() -> None:
    with duckdb.connect() as con:
        listed = con.execute("SELECT DISTINCT upper(logical_type) FROM duckdb_types()").fetchall()
        every = con.sql("SELECT * FROM test_all_types()")
        tried = {str(kind).split("(")[0] for kind in every.types} | {
            str(con.sql(f"SELECT CAST(NULL AS {kind}) AS x").types[0]).split("(")[0]
            for kind in EXTREMES
        }
    ids = {kind.strip('"').upper() for kind in tried}
    lists = {"LIST", "ARRAY"}  # written with brackets behind what they hold
    assert {name for (name,) in listed} - ids - lists <= {"NULL", "TYPE"}


def test_a_column_of_nothing_but_null_has_a_type_that_parquet_holds(tmp_path: Path) -> None:
    with duckdb.connect() as con:
        rows = fetch(con.sql("SELECT NULL AS x"), None)
    write_file(rows, tmp_path / "x.parquet", Format.parquet)
    assert rows["x"].to_list() == [None] and rows.schema["x"] == pl.String


@pytest.mark.parametrize(("rows", "texts"), [f[1:] for f in FRAMES], ids=IDS)
def test_text_is_what_duckdb_writes_and_null_stays_null(rows: pl.DataFrame, texts: list) -> None:
    values = rows.rows()  # what the TUI shows cell by cell
    assert [v is None for (v,) in values] == [t is None for t in texts]
    if rows.schema["x"] == pl.String:
        assert [v for (v,) in values] == texts
    elif rows.schema["x"].is_integer() or rows.schema["x"].is_decimal():
        assert [v if v is None else str(v) for (v,) in values] == texts


@pytest.mark.parametrize("how", [Format.table, Format.markdown])
@pytest.mark.parametrize(("rows", "texts"), [f[1:] for f in FRAMES], ids=IDS)
def test_drawn(rows: pl.DataFrame, texts: list, how: Format) -> None:
    shown = as_text(rows, how)
    assert "\x1b" not in shown and "\x9b" not in shown and "\u202e" not in shown
    read = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", shown) if how is Format.markdown else shown
    if rows.schema["x"] == pl.String:
        for text in texts:
            assert text is None or visible(text)[:40].strip() in read


@pytest.mark.parametrize(("rows", "texts"), [f[1:] for f in FRAMES], ids=IDS)
def test_csv_json_and_parquet_read_back(rows: pl.DataFrame, texts: list, tmp_path: Path) -> None:
    flat = pl.read_csv(io.StringIO(as_text(rows, Format.csv)), infer_schema=False)
    lines = [json.loads(line)["x"] for line in as_text(rows, Format.json).splitlines()]
    assert len(flat) == len(lines) == len(texts)
    if rows.schema["x"] == pl.String:
        assert lines == texts
        assert [t or None for t in flat["x"]] == [t or None for t in texts]
    elif rows.schema["x"].is_nested():
        inside = [None if t is None else json.loads(t, parse_constant=_none) for t in flat["x"]]
        assert inside == lines
    elif rows.schema["x"].is_float():
        finite = [
            (own, line) for own, line in zip(rows["x"], lines, strict=True) if own is not None
        ]
        assert all(
            math.isclose(own, line, rel_tol=1e-7) for own, line in finite if math.isfinite(own)
        )
    write_file(rows, tmp_path / "x.parquet", Format.parquet)
    assert pl.read_parquet(tmp_path / "x.parquet").equals(rows)
    assert pq.read_table(tmp_path / "x.parquet").num_rows == len(texts)  # another reader's eyes


def _none(_: str) -> None:
    """What JSON has in place of NaN."""


def test_numbers_stay_numbers_and_dates_dates() -> None:
    with duckdb.connect() as con:
        rows = fetch(
            con.sql("SELECT sum(x) AS s, DATE '2024-02-29' AS d, avg(x) AS a FROM range(5) t(x)"), 1
        )
    assert rows.schema["s"].is_decimal() and int(rows["s"][0]) == 10
    assert rows.schema["d"] == pl.Date and rows["a"][0] == 2.0


def test_names_that_come_twice_are_numbered() -> None:
    with duckdb.connect() as con:
        rows = fetch(
            con.sql('SELECT 1 AS a, 2 AS a, 3 AS a_1, 4 AS a, 5 AS "we""i.rd", 6 AS c0'), None
        )
    assert rows.columns == ["a", "a_2", "a_1", "a_3", 'we"i.rd', "c0"]
    assert rows.row(0) == (1, 2, 3, 4, 5, 6)
