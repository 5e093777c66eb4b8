"""The SQL that turns complete shards and indexes into documented tables."""

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from energylens.db.beside import lacking
from energylens.db.derived import LATER_TABLES
from energylens.db.explanations import EXPLANATIONS
from energylens.db.graphs import GRAPH_TABLES
from energylens.db.index_files import has_columns, has_old_columns, place_of
from energylens.db.layout import RunLayout, StoreLayout, file_name
from energylens.db.manifest import FileEntry, Manifest, read_manifest
from energylens.db.patterns import LABELS, TOKEN_CLASS
from energylens.db.provenance import RunInfo, fill_tables
from energylens.db.records import RecordError, refuse_link
from energylens.db.schema import BESIDE_TABLES, SHARD_TABLES, SINK_NORM_RATIO, TABLES
from energylens.db.sources import Source, in_place, quote
from energylens.db.table import Table
from energylens.errors import StoreDamagedError

_TRIES = 5
STORED = "stored"
"""The schema of what reads the files; the documented tables are views over it."""
_SHOWN = {EXPLANATIONS.name: LABELS}
"""Tables that show more than their own files."""


def schema_statements() -> list[str]:
    """The SQL that creates every table of the schema, without rows, with comments, and what named
    queries and the index have in common."""
    statements = [f"CREATE SCHEMA {STORED}", TOKEN_CLASS]
    for table in TABLES.values():
        kind = "TABLE" if table.place == "run" else "VIEW"
        select = _select(table, [], in_place)
        statements.append(f"CREATE {kind} {STORED}.{table.name} AS {select}")
    for table in TABLES.values():
        shown = _SHOWN.get(table.name, f"FROM {STORED}.{table.name}")
        statements += [f"CREATE VIEW {table.name} AS {shown}", *_comments(table)]
    return statements


def fill_views(
    con: duckdb.DuckDBPyConnection,
    layout: StoreLayout,
    runs: Iterable[tuple[RunLayout, RunInfo]],
    source: Source = in_place,
) -> None:
    """Point the tables of the schema to the files that are complete.

    Raises:
        StoreDamagedError: a record cannot be read, or a file that one lists is not there.
    """
    listed = list(runs)
    for _ in range(_TRIES - 1):
        try:
            return _fill(con, layout, listed, source)
        except duckdb.IOException:  # an index was replaced since its files were listed
            continue
    return _fill(con, layout, listed, source)


def _fill(
    con: duckdb.DuckDBPyConnection,
    layout: StoreLayout,
    listed: list[tuple[RunLayout, RunInfo]],
    source: Source,
) -> None:
    fill_tables(con, [info for _, info in listed], STORED)
    parts = _index_files(listed)  # first: shards are only added, so that an index has no more rows
    files = _shard_files([run for run, _ in listed]) | _graph_files(layout)
    infos = [info for _, info in listed]
    for table in SHARD_TABLES:
        _replace(con, table, _select(table, files[table.name], source, infos))
    for table in GRAPH_TABLES:
        _replace(con, table, _select(table, files[table.name], source))
    for table in LATER_TABLES:
        _replace(con, table, _select_index(table, parts[table.name], source))
    for table in BESIDE_TABLES:
        places = (run.beside(table.name) for run, _ in listed)
        there = [path for path in places if _is_there(path)]
        _replace(con, table, _select_beside(table, there, source))


def _replace(con: duckdb.DuckDBPyConnection, table: Table, select: str) -> None:
    con.execute(f"CREATE OR REPLACE VIEW {STORED}.{table.name} AS {select}")


@dataclass(frozen=True)
class _Computed:
    """A column of a view that follows from stored ones."""

    name: str
    sql: str
    doc: str


_MASKS = (
    _Computed("is_first", "(pos = 0)", "first in its context"),
    _Computed(
        "is_sink",
        f"(coalesce(norm_ratio, 0) > {SINK_NORM_RATIO})",
        f"an attention sink: norm_ratio above {SINK_NORM_RATIO:g}",
    ),
    _Computed(
        "is_masked",
        "(is_special OR is_first OR is_sink)",
        "left out of statistics by default: special, first in its context, or a sink",
    ),
)


def _computed(table: Table, infos: Sequence[RunInfo] = ()) -> tuple[_Computed, ...]:
    """The columns of a view that no file holds. One that a statement does not ask for costs it
    nothing: a window that nobody reads is not computed, as long as DuckDB cannot make a join of it,
    which its order keeps it from."""
    if table.name == "tokens":
        return _MASKS
    if table.name != "energies":
        return ()
    runs = [quote(i.run_id) for i in infos if i.n_layers - 1 in i.lens_layers]
    has_last = f"run_id IN ({', '.join(runs)})" if runs else "false"
    sql = (
        f"CASE WHEN {has_last} THEN energy - last_value(energy) OVER (PARTITION BY run_id, "
        "token_index ORDER BY layer ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) END"
    )
    return (
        _Computed(
            "drop",
            sql,
            "what the blocks after the layer are worth to the token: its energy less that of the "
            "model's output, in nats; below 0 where they make it worse; NULL where the last layer "
            "is not stored",
        ),
    )


@dataclass(frozen=True)
class _IndexFile:
    """A file of the index: all its rows are of one run, and of one SAE where they have one."""

    path: Path
    constants: dict[str, str]


def _shard_files(runs: list[RunLayout]) -> dict[str, list[Path]]:
    """For each table of the shards, the files of complete shards that hold rows of it."""
    files: dict[str, list[Path]] = {table.name: [] for table in SHARD_TABLES}
    for run in runs:
        for directory in run.complete_shards():
            for entry, path in _listed(directory, files):
                files[entry.table].append(path)
    return files


def _graph_files(layout: StoreLayout) -> dict[str, list[Path]]:
    """For each table of graphs, the files that hold rows of it."""
    files: dict[str, list[Path]] = {table.name: [] for table in GRAPH_TABLES}
    if os.path.lexists(layout.graphs):
        for entry, path in _listed(layout.graphs, files):
            files[entry.table].append(path)
    return files


def _index_files(runs: list[tuple[RunLayout, RunInfo]]) -> dict[str, list[_IndexFile]]:
    """For each derived table, its files with the run and the SAE they are of."""
    files: dict[str, list[_IndexFile]] = {table.name: [] for table in LATER_TABLES}
    for layout, info in runs:
        names = {file_name(sae.sae_id): sae.sae_id for sae in info.saes}
        apart: set[str] = set()
        for directory in (layout.measured, layout.index):
            if not (directory / "manifest.json").exists():
                continue
            is_old = has_old_columns(read_manifest(directory).made_from)
            for entry, path in _listed(directory, files):
                if place_of(entry.path) in apart:
                    continue  # on its way out of the index
                if is_old and not has_columns(path, TABLES[entry.table]):
                    continue  # its state is stale, and a rebuild brings the rows back
                constants = {"run_id": info.run_id}
                if "sae_id" in TABLES[entry.table].arrow.names:
                    constants["sae_id"] = _sae_of(path, names)
                files[entry.table].append(_IndexFile(path, constants))
                if directory == layout.measured:
                    apart.add(place_of(entry.path))
    return files


def _sae_of(path: Path, names: dict[str, str]) -> str:
    """The SAE that a file of the index is named for."""
    name = place_of(path.name).removesuffix(".parquet")
    if name not in names:
        raise StoreDamagedError(
            f"'{path}' is of no SAE of its run; delete '{path.parents[1]}' and run: "
            "energylens index"
        )
    return names[name]


def _listed(directory: Path, tables: Collection[str]) -> list[tuple[FileEntry, Path]]:
    """The files of a manifest that hold rows, of the tables that may lie there."""
    while True:
        manifest = read_manifest(directory)
        try:
            return list(_checked(directory, manifest, tables))
        except StoreDamagedError:
            if read_manifest(directory) == manifest:  # else it was replaced while we looked
                raise


def _checked(
    directory: Path, manifest: Manifest, tables: Collection[str]
) -> Iterator[tuple[FileEntry, Path]]:
    for entry in manifest.files:
        path = directory / entry.path
        if entry.table not in tables:
            raise StoreDamagedError(
                f"'{directory}/manifest.json' lists rows of '{entry.table}', a table that has no "
                f"place there; delete '{directory}' and run the same ingest or index command again"
            )
        if not path.is_file():
            raise StoreDamagedError(
                f"'{path}' is missing though its manifest lists it; "
                f"delete '{directory}' and run the same ingest or index command again"
            )
        if (n_bytes := path.stat().st_size) != entry.n_bytes:  # cheap, and finds what was cut
            raise StoreDamagedError(
                f"'{path}' has {n_bytes:,} bytes, its manifest says {entry.n_bytes:,}: it was "
                f"changed or damaged; delete '{directory}' and run the same ingest or index "
                "command again"
            )
        if entry.rows:
            yield entry, path


def _is_there(path: Path) -> bool:
    try:
        refuse_link(path)
    except RecordError as error:
        raise StoreDamagedError(str(error)) from error
    return path.is_file()


def _select(table: Table, files: list[Path], source: Source, infos: Sequence[RunInfo] = ()) -> str:
    columns = ", ".join(f'"{c.name}"' for c in table.columns)
    columns += "".join(f', {one.sql} AS "{one.name}"' for one in _computed(table, infos))
    if not files:
        return _select_nothing(table, columns)
    return f"SELECT {columns} FROM {source(files)}"  # noqa: S608


def _select_beside(table: Table, files: list[Path], source: Source) -> str:
    """Files that an older version wrote may lack columns, which are NULL there."""
    by_missing: dict[frozenset[str], list[Path]] = {}
    for path in files:
        by_missing.setdefault(lacking(table, path), []).append(path)
    branches = []
    for names, paths in by_missing.items():
        columns = ", ".join(
            f'CAST(NULL AS {sql_type(c.type)}) AS "{c.name}"' if c.name in names else f'"{c.name}"'
            for c in table.columns
        )
        branches.append(f"SELECT {columns} FROM {source(paths)}")  # noqa: S608
    return " UNION ALL ".join(branches) or _select(table, [], source)


def _select_index(table: Table, files: list[_IndexFile], source: Source) -> str:
    """One branch a file, with run and SAE as constants: a query that names them reads the one
    file it needs and compares no string in it."""
    if not files:
        return _select_nothing(table, "*")
    return " UNION ALL ".join(
        f"SELECT {_columns(table, part.constants)} FROM {source([part.path])}"  # noqa: S608
        for part in files
    )


def _columns(table: Table, constants: dict[str, str]) -> str:
    return ", ".join(
        f'{quote(constants[c.name])} AS "{c.name}"' if c.name in constants else f'"{c.name}"'
        for c in table.columns
    )


def _select_nothing(table: Table, columns: str) -> str:
    nulls = ", ".join(f'CAST(NULL AS {sql_type(c.type)}) AS "{c.name}"' for c in table.columns)
    return f"SELECT {columns} FROM (SELECT {nulls}) WHERE false"  # noqa: S608


def _comments(table: Table) -> list[str]:
    columns = [(c.name, c.doc) for c in (*table.columns, *_computed(table))]
    return [
        f"COMMENT ON VIEW {table.name} IS {quote(table.doc)}",
        *(f'COMMENT ON COLUMN {table.name}."{name}" IS {quote(doc)}' for name, doc in columns),
    ]


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
