"""A user's SQL: reading only, within the store, cut where it says so, and interruptible."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from energylens.db.limits import LEAST_MEMORY, Limits, machine_memory, parse_memory
from energylens.db.store import Session, Store, confine
from energylens.errors import QueryError, RunawayError, StoreDamagedError, UsageError
from energylens.queries.adhoc import run_sql
from energylens.queries.catalog import open_catalog, unreadable


@pytest.fixture(scope="module")
def confined(store_path: Path) -> Iterator[Store]:
    with open_catalog(store_path) as store:
        confine(store)
        yield store


def test_rows_and_the_cut(confined: Store) -> None:
    con = confined.cursor()
    whole = run_sql(con, "SELECT * FROM tokens")
    cut = run_sql(con, "SELECT * FROM tokens", limit=5)
    assert (len(cut.rows), cut.is_cut) == (5, True)
    assert not whole.is_cut and len(whole.rows) > 5
    exact = run_sql(con, "SELECT * FROM range(5)", limit=5)
    assert (len(exact.rows), exact.is_cut) == (5, False)
    assert len(run_sql(con, "SELECT * FROM range(20000)", limit=None).rows) == 20_000


@pytest.mark.parametrize(
    "text",
    [
        "FROM runs",
        "DESCRIBE tokens",
        "SHOW TABLES",
        "SUMMARIZE tokens",
        "EXPLAIN SELECT 1",
        "-- a remark\nSELECT 1;",
        "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
        "VALUES (1), (2)",
    ],
)
def test_reading_statements_run(confined: Store, text: str) -> None:
    assert len(run_sql(confined.cursor(), text).rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CREATE TABLE x AS SELECT 1", "CREATE is not run here"),
        ("COPY (SELECT 1) TO 'x.csv'", "COPY is not run here"),
        ("DROP VIEW tokens", "DROP is not run here"),
        ("INSERT INTO runs SELECT * FROM runs", "INSERT is not run here"),
        ("UPDATE runs SET kind = 'x'", "UPDATE is not run here"),
        ("SET threads = 1", "SET is not run here"),
        ("ATTACH 'x.duckdb'", "ATTACH is not run here"),
        ("INSTALL httpfs", "is not run here"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("", "nothing to run"),
        ("SELEC 1", "syntax error"),
        ("SELECT activatio FROM codes", "activatio"),
        ("SELECT * FROM read_csv('/etc/hostname')", "outside the store"),
        ("SELECT * FROM read_text('/etc/passwd')", "outside the store"),
        ("SELECT getenv('HOME')", "getenv"),
    ],
)
def test_everything_else_is_refused(confined: Store, text: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        run_sql(confined.cursor(), text)


def test_python_variables_are_not_tables(confined: Store) -> None:
    import polars as pl

    secret = pl.DataFrame({"a": [1]})
    with pytest.raises(QueryError, match="secret"):
        run_sql(confined.cursor(), "SELECT * FROM secret")
    assert len(secret) == 1


def test_a_long_query_is_interrupted(confined: Store) -> None:
    session = Session(confined)
    raised: list[BaseException] = []
    began = threading.Event()

    def work() -> None:
        con = session.cursor()
        began.set()
        try:
            run_sql(con, "SELECT count(*) FROM range(100000000000) a, range(1000) b")
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    began.wait()
    while thread.is_alive():
        session.interrupt()
        time.sleep(0.01)
    thread.join()
    assert isinstance(raised[0], duckdb.InterruptException)


def test_reading_inside_the_store_is_allowed(confined: Store) -> None:
    file = next(confined.path.rglob("tokens.parquet")).resolve()
    rows = run_sql(confined.cursor(), f"SELECT count(*) AS n FROM '{file}'").rows
    assert rows["n"][0] > 0
    assert isinstance(file, Path)


@pytest.mark.parametrize("text", ["SELECT count(*) FROM range(100000000000) a, range(1000) b"])
def test_a_runaway_is_stopped_with_a_sentence(confined: Store, text: str) -> None:
    cursor = confined.cursor()
    with pytest.raises(QueryError, match=r"stopped after 0.2 seconds; .* --timeout"):
        run_sql(cursor, text, limits=Limits(seconds=0.2))
    with pytest.raises(QueryError, match=r"stopped after 0.2 seconds"):
        run_sql(cursor, f"EXPLAIN ANALYZE {text}", limits=Limits(seconds=0.2))
    assert run_sql(cursor, "SELECT 1 AS a").rows["a"].to_list() == [1]


def test_a_query_that_needs_too_much_memory_is_stopped(store_path: Path) -> None:
    limits = Limits(memory=LEAST_MEMORY)
    with open_catalog(store_path, limits) as store:
        confine(store)
        for text in (
            "SELECT list(x) FROM range(100000000) t(x)",
            "SELECT * FROM range(1000000000)",
        ):
            with pytest.raises(QueryError, match=r"67.1 MB of memory .*; .* --memory"):
                run_sql(store.cursor(), text, None, limits)
        assert len(run_sql(store.cursor(), "FROM runs", limits=limits).rows)


def test_one_that_heeds_no_interrupt_is_given_up(
    confined: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function that does not look up from its work cannot be ended, but is told of."""
    release = threading.Event()
    monkeypatch.setattr("energylens.queries.adhoc._read", lambda *_: release.wait())
    monkeypatch.setattr("energylens.queries.adhoc._GRACE", 0.1)
    with pytest.raises(RunawayError, match="does not heed"):
        run_sql(confined.cursor(), "SELECT 1", limits=Limits(seconds=0.1))
    release.set()


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("2GB", 2 * 10**9), ("512 MiB", 512 * 2**20), ("0.5g", 5 * 10**8), ("67108864", 2**26)],
)
def test_amounts_of_memory_are_read(text: str, n_bytes: int) -> None:
    assert parse_memory(text) == n_bytes
    assert parse_memory("50%") == pytest.approx(machine_memory() / 2, abs=2)


@pytest.mark.parametrize("text", ["", "much", "-1GB", "1", "0%", "1e9", "9" * 5000, "GB", "nan"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="memory"):
        parse_memory(text)


def test_no_more_rows_are_made_than_are_shown(store_path: Path) -> None:
    """More rows than any memory holds: they are there at once, or never."""
    limits = Limits(memory=LEAST_MEMORY)
    with open_catalog(store_path, limits) as store:
        confine(store)
        found = run_sql(store.cursor(), "SELECT * FROM range(1000000000000)", 5, limits)
    assert found.rows["range"].to_list() == [0, 1, 2, 3, 4] and found.is_cut


def test_a_full_disk_is_no_damage() -> None:
    told = 'Failed to commit: Could not write file "/tmp/x/catalog.duckdb.wal": File too large'
    full = unreadable(duckdb.IOException(told))
    assert not isinstance(full, StoreDamagedError) and "set TMPDIR" in str(full)
    damaged = unreadable(duckdb.IOException("No magic bytes found at end of file 'x.parquet'"))
    assert isinstance(damaged, StoreDamagedError) and "energylens verify" in str(damaged)
