"""Names in the calls of named queries that a user's own SQL makes.

Such a call goes to DuckDB as it is written, so its names must be whole; one that is not is an
error that tells the nearest, as everywhere. Only values that stand there as they are can be judged:
what a subquery or a column gives is not known before it runs.
"""

from collections.abc import Iterator
from typing import Any

from energylens.db.store import Reader
from energylens.errors import UnknownNameError
from energylens.queries.catalog import NamedQuery, named_queries
from energylens.queries.reading import nodes
from energylens.queries.scope import LOOKED_UP, looked_up


def check_calls(reader: Reader, tree: Any) -> None:
    """Look up the names in every call of a named query in a statement's tree.

    Raises:
        UnknownNameError: one stands for nothing, or is not whole.
    """
    for node in nodes(tree):
        called = node.get("function") if node.get("type") == "TABLE_FUNCTION" else None
        query = named_queries().get(str(called["function_name"]).lower()) if called else None
        if called and query:
            _check(reader, query, dict(_values(query, called["arguments"])))


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
    asks_a_run = any(p.name == "run" for p in query.parameters)
    if asks_a_run and not isinstance(values.get("run"), str):
        return
    written = {name: value for name, value in values.items() if isinstance(value, str | int)}
    found = looked_up(reader, dict.fromkeys(written, False), dict(written))
    for name, value in written.items():
        if name in LOOKED_UP and str(found[name]) != str(value):
            raise UnknownNameError(
                f"{query.name}: in SQL a name is given whole: {name} := '{found[name]}', "
                f"not '{value}'"
            )
