"""A run as one DuckDB file: the tables of the store with their comments, and the named queries.

Any DuckDB from 1.4 opens it, without this program. The queries lie in a table, as the text that
creates them: macros that a newer DuckDB stores cannot all be read by an older one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb

from energylens.db.patterns import TOKEN_CLASS
from energylens.db.schema import TABLES
from energylens.db.sources import quote
from energylens.db.store import Store
from energylens.errors import StoreError
from energylens.queries.catalog import named_queries
from energylens.queries.writing import whole_file

STORAGE = "v1.4.0"
"""The oldest DuckDB that opens the file."""
CODES = frozenset(("codes", "feature_codes", "activations"))
"""The largest tables, a row a token and active feature, or a vector a token."""
QUERIES = "queries"
_QUERIES_DOC = (
    "the named queries of Energy-Lens: run a row's sql, and its name is a table macro; token_class "
    "comes first, since others call it"
)


@dataclass(frozen=True)
class Written:
    """What is in the file."""

    n_tables: int
    n_rows: int
    """Of all tables, the queries not counted."""


def export_duckdb(store: Store, run: str, path: Path, with_codes: bool = True) -> Written:
    """Write the tables of a run to a file, and those of the store; those of `CODES` only
    `with_codes`.

    The store must not be confined, for it writes beside it. The same run gives the same rows in the
    same order, but not the same bytes: DuckDB gives each database an identity of its own.

    Raises:
        StoreError: the file cannot be written.
    """
    if path.exists() and not path.is_file():
        raise StoreError(f"'{path}' is no file, and a database can be nothing else; name a file")
    con, n_rows = store.cursor(), 0
    names = [name for name in TABLES if with_codes or name not in CODES]
    with whole_file(path) as partial:
        partial.unlink(missing_ok=True)  # DuckDB makes no database of an empty file
        try:
            con.execute(f"ATTACH {quote(str(partial))} AS file (STORAGE_VERSION '{STORAGE}')")
            try:
                for name in names:
                    n_rows += _copy(con, name, run)
                _write_queries(con)
            finally:
                con.execute("DETACH file")
        except duckdb.IOException as error:
            raise StoreError(
                f"cannot write '{path}': {error}; make room, or give another"
            ) from error
    return Written(len(names), n_rows)


def _copy(con: duckdb.DuckDBPyConnection, name: str, run: str) -> int:
    """One table with its comments; how many rows it has."""
    columns = con.execute(
        "SELECT column_name, comment FROM duckdb_columns() WHERE database_name = 'memory' "
        "AND schema_name = 'main' AND table_name = $name ORDER BY column_index",
        {"name": name},
    ).fetchall()
    is_of_run = "run_id" in dict(columns) and TABLES[name].place != "store"
    only = "WHERE run_id = $run" if is_of_run else ""
    con.execute(
        f'CREATE TABLE file.main."{name}" AS FROM main."{name}" {only}',
        {"run": run} if only else {},
    )
    _say(con, name, TABLES[name].doc, dict(columns))
    (n_rows,) = con.execute(f'SELECT count(*) FROM file.main."{name}"').fetchall()[0]  # noqa: S608
    return n_rows


def _write_queries(con: duckdb.DuckDBPyConnection) -> None:
    con.execute(f"CREATE TABLE file.main.{QUERIES} (name VARCHAR, doc VARCHAR, sql VARCHAR)")
    rows = [("token_class", "the class of a piece of text", TOKEN_CLASS)]
    rows += [(q.name, q.doc, q.sql) for q in named_queries().values()]
    con.executemany(f"INSERT INTO file.main.{QUERIES} VALUES (?, ?, ?)", rows)  # noqa: S608
    said = {"name": "how it is called", "doc": "what it answers", "sql": "what creates it"}
    _say(con, QUERIES, _QUERIES_DOC, said)


def _say(
    con: duckdb.DuckDBPyConnection, name: str, doc: str, columns: Mapping[str, str | None]
) -> None:
    con.execute(f'COMMENT ON TABLE file.main."{name}" IS {quote(doc)}')
    for column, said in columns.items():
        if said is not None:
            con.execute(f'COMMENT ON COLUMN file.main."{name}"."{column}" IS {quote(said)}')
