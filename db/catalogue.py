"""The SQL that turns complete shards and indexes into documented tables."""

from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa

from db.derived import INDEX_TABLES
from db.layout import RunLayout
from db.manifest import read_manifest
from db.provenance import RunInfo, create_tables
from db.schema import SHARD_TABLES, SINK_NORM_RATIO, TABLES
from db.table import Table
from energylens.errors import StoreDamagedError


def create_catalogue(
    con: duckdb.DuckDBPyConnection, runs: Iterable[tuple[RunLayout, RunInfo]]
) -> None:
    """Create every table of the schema: views over complete files, with comments."""
    listed = list(runs)
    create_tables(con, [info for _, info in listed])
    files = _files([layout for layout, _ in listed])
    for table in (*SHARD_TABLES, *INDEX_TABLES):
        con.execute(f"CREATE VIEW {table.name} AS {_select(table, files[table.name])}")
    for table in TABLES.values():
        _comment(con, table, "TABLE" if table.place == "run" else "VIEW")


def _files(runs: list[RunLayout]) -> dict[str, list[Path]]:
    """For each table, the files of complete shards and indexes that hold rows of it."""
    files: dict[str, list[Path]] = {name: [] for name in TABLES}
    for run in runs:
        directories = run.complete_shards()
        if (run.index / "manifest.json").exists():
            directories.append(run.index)
        for directory in directories:
            for entry in read_manifest(directory).files:
                path = directory / entry.path
                if not path.is_file():
                    raise StoreDamagedError(
                        f"'{path}' is missing though its manifest lists it; "
                        f"delete '{directory}' and run the same ingest or index command again"
                    )
                if entry.rows:
                    files[entry.table].append(path)
    return files


def _select(table: Table, files: list[Path]) -> str:
    columns = ", ".join(f'"{c.name}"' for c in table.columns)
    if table.name == "tokens":
        columns += (
            f", (is_special OR pos = 0 OR coalesce(norm_ratio, 0) > {SINK_NORM_RATIO}) AS is_masked"
        )
    if not files:
        nulls = ", ".join(f'CAST(NULL AS {sql_type(c.type)}) AS "{c.name}"' for c in table.columns)
        return f"SELECT {columns} FROM (SELECT {nulls}) WHERE false"  # noqa: S608
    listed = ", ".join(quote(str(path.resolve())) for path in files)
    return f"SELECT {columns} FROM read_parquet([{listed}])"  # noqa: S608


def _comment(con: duckdb.DuckDBPyConnection, table: Table, kind: str) -> None:
    con.execute(f"COMMENT ON {kind} {table.name} IS {quote(table.doc)}")
    for column in table.columns:
        con.execute(f'COMMENT ON COLUMN {table.name}."{column.name}" IS {quote(column.doc)}')
    if table.name == "tokens":
        doc = (
            "left out of statistics by default: special, first in its context, or a sink "
            f"(norm_ratio above {SINK_NORM_RATIO:g})"
        )
        con.execute(f"COMMENT ON COLUMN tokens.is_masked IS {quote(doc)}")


def sql_type(kind: pa.DataType) -> str:
    """The DuckDB type of an Arrow type of the schema."""
    if isinstance(kind, pa.ListType):
        return f"{sql_type(kind.value_type)}[]"
    return {
        pa.string(): "VARCHAR",
        pa.binary(): "BLOB",
        pa.bool_(): "BOOLEAN",
        pa.int16(): "SMALLINT",
        pa.int32(): "INTEGER",
        pa.int64(): "BIGINT",
        pa.float32(): "FLOAT",
        pa.float64(): "DOUBLE",
    }[kind]


def quote(text: str) -> str:
    """A string as an SQL literal; for comments and paths, which cannot be bound."""
    return "'" + text.replace("'", "''") + "'"
