"""Names in the calls of named queries that a user's own SQL makes.

Such a call goes to DuckDB as it is written, so its names must be whole; one that is not is an
error that tells the nearest, as everywhere. Only values that stand there as they are can be judged:
what a subquery or a column gives is not known before it runs.
"""

import json
from collections.abc import Iterator
from typing import Any

import duckdb

from energylens.db.limits import Limits
from energylens.db.store import Reader
from energylens.errors import UnknownNameError
from energylens.queries.adhoc import SqlResult, run_sql
from energylens.queries.catalog import NamedQuery, named_queries
from energylens.queries.reading import nodes
from energylens.queries.scope import LOOKED_UP, looked_up


def ask(
    reader: Reader, text: str, limit: int | None = 10_000, limits: Limits | None = None
) -> SqlResult:
    """Run one statement of a user's on a confined store; `limit` None takes every row.

    Raises:
        UnknownNameError: it calls a named query with a name that stands for nothing.
        QueryError, RunawayError, duckdb.InterruptException: as `run_sql` does.
    """
    con = reader.cursor()
    for query, values in _calls(con, text):
        _check(reader, query, values)
    return run_sql(con, text, limit, limits)


def _calls(
    con: duckdb.DuckDBPyConnection, text: str
) -> Iterator[tuple[NamedQuery, dict[str, object]]]:
    """Every call of a named query in a statement, with the values that stand there."""
    for node in nodes(_tree(con, text)):
        called = node.get("function") if node.get("type") == "TABLE_FUNCTION" else None
        query = named_queries().get(str(called["function_name"]).lower()) if called else None
        if called and query:
            yield query, dict(_values(query, called["arguments"]))


def _tree(con: duckdb.DuckDBPyConnection, text: str) -> Any:
    """The tree of a statement; nothing where there is none, which `run_sql` tells of."""
    try:
        found = con.execute("SELECT json_serialize_sql($text)", {"text": text}).fetchone()
    except (duckdb.Error, UnicodeEncodeError):
        return None
    return json.loads(found[0]) if found else None


def _values(query: NamedQuery, arguments: list[Any]) -> Iterator[tuple[str, object]]:
    for place, argument in enumerate(arguments):
        named = argument["name"].lower()
        if named or place < len(query.parameters):
            yield named or query.parameters[place].name, _value(argument["expression"])


def _value(expression: Any) -> object:
    """A text or a number as it is written; an expression that is neither, itself."""
    literal = expression.get("literal") or {}
    match literal.get("kind"):
        case "STRING":
            return literal["text"]
        case "INTEGER":
            return int(literal["text"])
    return expression


def _check(reader: Reader, query: NamedQuery, values: dict[str, object]) -> None:
    parameters = {p.name: False for p in query.parameters}
    if "run" in parameters and not isinstance(values.get("run"), str):
        return
    written = {name: value for name, value in values.items() if isinstance(value, str | int)}
    found = looked_up(reader, dict.fromkeys(written, False), dict(written))
    for name, value in written.items():
        if name in LOOKED_UP and str(found[name]) != str(value):
            raise UnknownNameError(
                f"{query.name}: in SQL a name is given whole: {name} := '{found[name]}', "
                f"not '{value}'"
            )
