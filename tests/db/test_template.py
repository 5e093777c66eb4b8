"""The cache of what every catalogue begins with: it saves time and changes nothing."""

from pathlib import Path

import duckdb
import pytest

from energylens.db.template import install
from energylens.db.views import schema_statements

STATEMENTS = [
    *schema_statements(),
    "CREATE MACRO twice(x INTEGER) AS TABLE SELECT 2 * x AS y",
    "COMMENT ON MACRO TABLE twice IS 'it''s doubled'",
]
TOLD = (
    "SELECT schema_name, table_name, column_name, data_type, comment FROM duckdb_columns() "
    "WHERE NOT internal ORDER BY ALL",
    "SELECT schema_name, view_name, comment FROM duckdb_views() WHERE NOT internal ORDER BY ALL",
    "SELECT function_name, macro_definition, comment FROM duckdb_functions() "
    "WHERE NOT internal ORDER BY ALL",
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one's own, empty."""
    monkeypatch.setattr("energylens.db.template.user_cache_path", lambda _: tmp_path / "cache")
    return tmp_path / "cache"


def told(file: str | Path = ":memory:") -> list[list[tuple[object, ...]]]:
    """What a catalogue says of itself once the statements are installed."""
    with duckdb.connect(str(file)) as con:
        install(con, STATEMENTS)
        assert con.execute("FROM twice(4)").fetchall() == [(8,)]
        return [con.execute(sql).fetchall() for sql in TOLD]


def expected() -> list[list[tuple[object, ...]]]:
    with duckdb.connect() as con:
        for statement in STATEMENTS:
            con.execute(statement)
        return [con.execute(sql).fetchall() for sql in TOLD]


def test_a_copy_of_the_cache_is_what_the_statements_make(cache: Path, tmp_path: Path) -> None:
    assert told() == told() == told(tmp_path / "x.duckdb") == expected()
    assert len(list(cache.iterdir())) == 1


def test_other_statements_have_a_cache_of_their_own(cache: Path) -> None:
    told()
    with duckdb.connect() as con:
        install(con, ["CREATE VIEW one AS SELECT 1 AS x"])
        assert con.execute(
            "SELECT view_name FROM duckdb_views() WHERE NOT internal"
        ).fetchall() == [("one",)]
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_cache_is_made_again(cache: Path) -> None:
    told()
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    for damaged in (b"", whole[:5000], b"x" * len(whole)):
        kept.write_bytes(damaged)
        assert told() == expected()
        assert told() == expected()
        assert kept.stat().st_size == len(whole)


def test_no_cache_is_needed(cache: Path) -> None:
    cache.write_text("in the way")
    assert told() == expected()
    assert cache.read_text() == "in the way"
