"""The named queries: one DuckDB table macro a file in `sql/`, callable from any DuckDB client."""

import re
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import duckdb
import polars as pl

from energylens.db.limits import Limits
from energylens.db.sources import quote
from energylens.db.store import Reader, Store, open_store, reread, write_catalog_file
from energylens.errors import QueryError, StoreDamagedError, StoreError, UnknownNameError
from energylens.queries.names import nearest, no_such
from energylens.queries.scope import looked_up

_SQL = files("energylens.queries") / "sql"
_HEAD = re.compile(r"CREATE OR REPLACE MACRO (\w+)\((.*?)\) AS TABLE", re.DOTALL)
_NO_ROOM = re.compile("No space left|File too large|Could not write")
_WRONG_VALUES = (
    duckdb.BinderException,
    duckdb.ConversionException,
    duckdb.InvalidInputException,
    duckdb.OutOfRangeException,
)


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
    return open_store(path, limits, _statements())


def write_catalog(path: Path) -> None:
    """Rebuild `catalog.duckdb` of a store for the plain duckdb shell."""
    write_catalog_file(path, _statements())


def call(reader: Reader, query: str, /, **values: object) -> pl.DataFrame:
    """The rows of one named query; values are bound, never pasted into the SQL.

    `run` and `sae` may be left out (or None) where the store has one, and may be the beginning of a
    name. No rows mean that there is nothing to tell, never that a name was wrong.

    Raises:
        UnknownNameError: no query, run, SAE, feature, text or category is so called.
        QueryError: the query has no such parameter, or a value is none it can take.
        StoreDamagedError: a file of the store cannot be read.
    """
    return reread(reader, lambda: _call(reader, query, values))


def _call(reader: Reader, query: str, values: dict[str, object]) -> pl.DataFrame:
    known = named_query(query)
    types = {p.name: p.type for p in known.parameters}
    required = {p.name: p.default is None for p in known.parameters}
    unknown = sorted(set(values) - set(types))
    if unknown:
        near = ", ".join(nearest(unknown[0], types))
        raise QueryError(f"{usage(known)}: no parameter {', '.join(unknown)}; nearest: {near}")
    bound = looked_up(reader, required, values)
    missing = [name for name, must in required.items() if must and bound.get(name) is None]
    if missing:
        raise QueryError(f"{usage(known)}: {', '.join(missing)} must be given")
    arguments = ", ".join(f"{name} := CAST(${name} AS {types[name]})" for name in bound)
    try:
        rows = reader.cursor().sql(f"FROM {query}({arguments})", params=bound)
        return pl.DataFrame(rows.to_arrow_table())
    except _WRONG_VALUES as error:
        raise QueryError(f"{usage(known)}: {error}") from error
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise unreadable(error) from error


def unreadable(error: duckdb.Error) -> StoreError:
    """What a query says that fails on what is stored or for want of room, not on what was asked."""
    if _NO_ROOM.search(str(error)):
        return StoreError(
            f"there is no room for what is put aside meanwhile: {error}; make room in "
            f"'{tempfile.gettempdir()}', or set TMPDIR to another directory"
        )
    return StoreDamagedError(
        f"what is stored cannot be read: {error}; energylens verify names the files that are "
        "damaged"
    )


def named_query(name: str) -> NamedQuery:
    """One of them.

    Raises:
        UnknownNameError: there is none of this name.
    """
    known = named_queries()
    if name not in known:
        raise UnknownNameError(f"{no_such('there is no query', name, known)}; energylens queries")
    return known[name]


def usage(query: NamedQuery) -> str:
    """How a query is called, as one line."""
    shown = (p.name if p.default is None else f"{p.name} := {p.default}" for p in query.parameters)
    return f"{query.name}({', '.join(shown)})"


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
