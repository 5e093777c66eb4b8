"""A user's own SQL: one statement that reads, within the store, and no more than it may take."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import duckdb
import polars as pl

from energylens.db.limits import Limits, resident_bytes
from energylens.db.store import Reader, reread
from energylens.errors import QueryError, RunawayError
from energylens.queries.calls import check_calls
from energylens.queries.display import size
from energylens.queries.editing import PLACE
from energylens.queries.reading import reading_statement
from energylens.queries.values import fetch

_GRACE = 5.0
"""Seconds a query gets to end when told to."""
_LOOK = 0.05
"""Seconds between two looks at a running query."""
_ROOM = 1.5
"""Memory of the process may grow to this much of a query's, for rows are held once more."""


@dataclass(frozen=True)
class SqlResult:
    """What a statement gave."""

    rows: pl.DataFrame
    is_cut: bool
    """There were more rows than the limit."""
    seconds: float


def ask(
    reader: Reader, text: str, limit: int | None = 10_000, limits: Limits | None = None
) -> SqlResult:
    """Run one statement of a user's on a confined store, as `run_sql` does, with the names looked
    up that its calls of named queries hold.

    Raises:
        UnknownNameError: one of them stands for nothing.
        QueryError, RunawayError, duckdb.InterruptException: as `run_sql` does.
    """
    check = partial(check_calls, reader)
    return reread(reader, lambda: run_sql(reader.cursor(), text, limit, limits, check))


def run_sql(
    con: duckdb.DuckDBPyConnection,
    text: str,
    limit: int | None = 10_000,
    limits: Limits | None = None,
    check: Callable[[Any], None] = lambda _: None,
) -> SqlResult:
    """Run one statement on a cursor of a confined store; `limit` None takes every row. `check` is
    given its tree first, within the same limits.

    Raises:
        QueryError: it is no single reading statement, DuckDB refuses it, or it took too much.
        RunawayError: it took too much and does not end; its cursor is lost.
        duckdb.InterruptException: the cursor was interrupted.
    """
    began = time.perf_counter()
    rows = _within(con, limits or Limits(), lambda: _read(con, text, limit, check))
    is_cut = limit is not None and len(rows) > limit
    seconds = time.perf_counter() - began
    return SqlResult(rows.head(limit) if limit is not None else rows, is_cut, seconds)


def _read(
    con: duckdb.DuckDBPyConnection, text: str, limit: int | None, check: Callable[[Any], None]
) -> pl.DataFrame:
    try:
        statement = reading_statement(con, text)
        check(statement.tree)
        con.execute("BEGIN TRANSACTION READ ONLY")
        try:
            relation = con.sql(statement.text)
            if relation is None:
                raise QueryError("the statement returns no rows")
            return fetch(relation, None if limit is None else limit + 1)
        finally:
            con.execute("ROLLBACK")
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise QueryError(_explain(_placed(con, text, error))) from error
    except RecursionError:
        raise QueryError("the statement is nested too deeply") from None


@dataclass
class _Run:
    """A query in a thread of its own."""

    ended: threading.Event = field(default_factory=threading.Event)
    rows: pl.DataFrame | None = None
    error: BaseException | None = None


def _within(
    con: duckdb.DuckDBPyConnection, limits: Limits, read: Callable[[], pl.DataFrame]
) -> pl.DataFrame:
    """What `read` gives, unless it takes more than it may; this thread stays free to end it."""
    run = _Run()

    def work() -> None:
        try:
            run.rows = read()
        except BaseException as error:
            run.error = error
        finally:
            run.ended.set()

    threading.Thread(target=work, daemon=True).start()
    try:
        excess = _watch(run, limits)
    except KeyboardInterrupt:
        _end(con, run)
        raise
    if excess is not None:
        if not _end(con, run):
            raise RunawayError(f"{excess}, and it does not heed being told to")
        if run.rows is None:
            raise QueryError(excess) from None
    if run.error is not None:
        raise run.error
    assert run.rows is not None, "there are rows or there is an error"
    return run.rows


def _watch(run: _Run, limits: Limits) -> str | None:
    """Wait for the end; a sentence where it took too much before."""
    began, held = time.monotonic(), resident_bytes()
    while not run.ended.wait(_LOOK):
        if limits.seconds is not None and time.monotonic() - began > limits.seconds:
            return (
                f"the query was stopped after {limits.seconds:g} seconds; ask for less, or give "
                "it longer with --timeout"
            )
        now = resident_bytes()
        if held is not None and now is not None and now - held > _ROOM * limits.memory:
            return _too_large(limits)
    if isinstance(run.error, QueryError) and isinstance(
        run.error.__cause__, duckdb.OutOfMemoryException
    ):
        return _too_large(limits)
    return None


def _too_large(limits: Limits) -> str:
    return (
        f"the query was stopped: it needs more than the {size(limits.memory)} of memory a query "
        "may take; ask for less, or give it more with --memory"
    )


def _end(con: duckdb.DuckDBPyConnection, run: _Run) -> bool:
    """Interrupt a query again and again; whether it ended. Between two of its steps an interrupt
    is lost."""
    until = time.monotonic() + _GRACE
    while time.monotonic() < until:
        con.interrupt()
        if run.ended.wait(_LOOK):
            return True
    return False


def _placed(con: duckdb.DuckDBPyConnection, text: str, error: duckdb.Error) -> duckdb.Error:
    """The same error with the line it lies in, which DuckDB leaves out of some."""
    if not isinstance(error, duckdb.BinderException | duckdb.CatalogException):
        return error
    if PLACE.search(str(error)):
        return error
    try:
        con.execute(f"EXPLAIN\n{text}")
    except type(error) as again:
        return type(error)(PLACE.sub(_a_line_up, str(again)))
    except duckdb.Error:
        return error
    return error


def _a_line_up(place: re.Match[str]) -> str:
    line = int(place[1])
    up = str(line - 1)
    return f"LINE {up}: {place[2]}\n{place[3][len(place[1]) - len(up) :]}^"


def _explain(error: duckdb.Error) -> str:
    """DuckDB's message without the name of its class."""
    text = re.sub(r"^[A-Z][A-Za-z ]+ Error: ", "", str(error)).strip()
    if "disabled through configuration" in text or "Permission Error" in str(error):
        return f"files outside the store cannot be read here: {text.splitlines()[0]}"
    if "launched in read-only mode" in text:
        return "nothing is written here: a store is only read"
    return text
