"""The named queries: one DuckDB table macro a file in `sql/`, callable from any DuckDB client."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import duckdb
import polars as pl

from energylens.db.limits import Limits
from energylens.db.store import Reader, Store, open_store, write_catalog_file
from energylens.db.views import quote
from energylens.errors import QueryError

_SQL = files("energylens.queries") / "sql"
_HEAD = re.compile(r"CREATE OR REPLACE MACRO (\w+)\((.*?)\) AS TABLE", re.DOTALL)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a named query."""

    name: str
    type: str
    default: str | None
    """The default as SQL; None where the parameter must be given."""


@dataclass(frozen=True)
class NamedQuery:
    """One named query."""

    name: str
    doc: str
    parameters: tuple[Parameter, ...]
    sql: str
    """The statement that creates it."""


@cache
def named_queries() -> dict[str, NamedQuery]:
    """Every named query, by name."""
    found = (_parse(file.name, file.read_text(encoding="utf-8")) for file in _SQL.iterdir())
    return {query.name: query for query in sorted(found, key=lambda q: q.name)}


def open_catalog(path: Path, limits: Limits | None = None) -> Store:
    """Open a store with the named queries installed; `limits` None are the defaults.

    Raises:
        StoreError: there is no such store, or it cannot be read.
    """
    store = open_store(path, limits)
    con = store.cursor()
    for statement in _statements():
        con.execute(statement)
    return store


def write_catalog(path: Path) -> None:
    """Rebuild `catalog.duckdb` of a store for the plain duckdb shell."""
    write_catalog_file(path, _statements())


def call(reader: Reader, query: str, /, **values: object) -> pl.DataFrame:
    """The rows of one named query; values are bound, never pasted into the SQL.

    Raises:
        QueryError: no query has this name, or it has no such parameter.
    """
    known = named_queries()
    if query not in known:
        raise QueryError(f"there is no query '{query}'; there are: {', '.join(known)}")
    parameters = known[query].parameters
    types = {p.name: p.type for p in parameters}
    unknown = sorted(set(values) - {p.name for p in parameters})
    missing = [p.name for p in parameters if p.default is None and p.name not in values]
    if unknown or missing:
        raise QueryError(f"{usage(known[query])}: {_wrong(unknown, missing)}")
    arguments = ", ".join(f"{name} := CAST(${name} AS {types[name]})" for name in values)
    try:
        rows = reader.cursor().sql(f"FROM {query}({arguments})", params=values)
        return pl.DataFrame(rows.to_arrow_table())
    except (duckdb.ConversionException, duckdb.BinderException) as error:
        raise QueryError(f"{usage(known[query])}: {error}") from error


def usage(query: NamedQuery) -> str:
    """How a query is called, as one line."""
    shown = (p.name if p.default is None else f"{p.name} := {p.default}" for p in query.parameters)
    return f"{query.name}({', '.join(shown)})"


def _wrong(unknown: list[str], missing: list[str]) -> str:
    said = [f"no parameter {', '.join(unknown)}"] if unknown else []
    said += [f"{', '.join(missing)} must be given"] if missing else []
    return "; ".join(said)


def _statements() -> list[str]:
    statements = []
    for query in named_queries().values():
        comment = f"COMMENT ON MACRO TABLE {query.name} IS {quote(query.doc)}"
        statements += [query.sql, comment]
    return statements


def _parse(file_name: str, text: str) -> NamedQuery:
    """A query from its file: the comment on top is its documentation, the head its signature."""
    lines = text.splitlines()
    top = [line for line in lines if line.startswith("--")]
    sql = "\n".join(lines[len(top) :]).strip()
    head = _HEAD.match(sql)
    if head is None or f"{head[1]}.sql" != file_name:
        raise ValueError(f"queries/sql/{file_name} does not define the macro it is named for")
    listed = [part.strip() for part in head[2].split(",") if part.strip()]
    doc = " ".join(line.removeprefix("--").strip() for line in top)
    return NamedQuery(head[1], doc, tuple(_parameter(part) for part in listed), sql)


def _parameter(text: str) -> Parameter:
    declared, _, default = (part.strip() for part in text.partition(":="))
    name, kind = declared.split()
    return Parameter(name, kind, default or None)
