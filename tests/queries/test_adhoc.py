"""A user's SQL: reading only, within the store, cut where it says so, and interruptible."""

import threading
import time
from pathlib import Path

import duckdb
import pytest

from energylens.db.store import Session, Store, confine
from energylens.errors import QueryError
from energylens.queries.adhoc import run_sql


@pytest.fixture
def confined(store: Store) -> Store:
    confine(store)
    return store


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
