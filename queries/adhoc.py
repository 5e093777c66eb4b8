"""A user's own SQL: one statement that reads, within the store, and no more rows than asked for."""

import re
import time
from dataclasses import dataclass

import duckdb
import polars as pl

from energylens.errors import QueryError

_READING = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


@dataclass(frozen=True)
class SqlResult:
    """What a statement gave."""

    rows: pl.DataFrame
    is_cut: bool
    """There were more rows than the limit."""
    seconds: float


def run_sql(con: duckdb.DuckDBPyConnection, text: str, limit: int | None = 10_000) -> SqlResult:
    """Run one statement on a cursor of a confined store; `limit` None takes every row.

    Raises:
        QueryError: it is no single reading statement, or DuckDB refuses it.
        duckdb.InterruptException: the cursor was interrupted.
    """
    statement = _one_reading_statement(con, text)
    began = time.perf_counter()
    try:
        relation = con.sql(statement)
        if relation is None:
            raise QueryError("the statement returns no rows")
        limited = relation if limit is None else relation.limit(limit + 1)
        rows = pl.DataFrame(limited.to_arrow_table())
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise QueryError(_explain(error)) from error
    is_cut = limit is not None and len(rows) > limit
    seconds = time.perf_counter() - began
    return SqlResult(rows.head(limit) if limit is not None else rows, is_cut, seconds)


def _one_reading_statement(con: duckdb.DuckDBPyConnection, text: str) -> str:
    try:
        statements = con.extract_statements(text)
    except duckdb.Error as error:
        raise QueryError(_explain(error)) from error
    if len(statements) != 1:
        raise QueryError(
            "nothing to run" if not statements else "one statement at a time; run them in turn"
        )
    if statements[0].type not in _READING:
        kind = str(statements[0].type).rsplit(".", 1)[-1]
        raise QueryError(
            f"{kind} is not run here: a store is read with SELECT and EXPLAIN only; "
            "to keep a result, export it"
        )
    return statements[0].query


def _explain(error: duckdb.Error) -> str:
    """DuckDB's message without the name of its class."""
    text = re.sub(r"^[A-Z][A-Za-z ]+ Error: ", "", str(error)).strip()
    if "disabled through configuration" in text or "Permission Error" in str(error):
        return f"files outside the store cannot be read here: {text.splitlines()[0]}"
    return text
