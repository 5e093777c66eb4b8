"""Check a store against its manifests and its keys; report everything that is wrong."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from energylens.db.beside import read_rows
from energylens.db.graphs import GRAPH_TABLES
from energylens.db.index_files import has_old_columns, index_state
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.manifest import FileEntry, entry_of, read_manifest
from energylens.db.provenance import RunInfo, read_run
from energylens.db.records import is_sealed
from energylens.db.schema import BESIDE_TABLES, TABLES
from energylens.db.store import open_store
from energylens.db.sums import NAME as SUMS
from energylens.db.sums import wrong_with
from energylens.db.version import check_format, read_format
from energylens.errors import EnergyLensError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a store."""

    where: str
    what: str
    remedy: str


def verify_store(path: Path, report: Callable[[str], None] = lambda _: None) -> list[Problem]:
    """Every problem of a store: damaged files, wrong counts, orphans, duplicates, stray keys.

    `report` is told what is being checked.

    Raises:
        StoreError: there is no store at `path`, or its format is not one this program reads.
    """
    check_format(path)
    layout = StoreLayout(path)
    problems = list(_check_store(layout))
    if os.path.lexists(layout.graphs):
        report("attribution graphs")
        problems += _check_directory(layout.graphs, False)
    for run in layout.run_directories():
        report(f"files of {run.root.name}")
        problems += _check_files(run)
    if problems:
        return problems  # queries over damaged files would only repeat the news
    with open_store(path) as store:
        con = store.cursor()
        problems += _check_graphs(con)
        for state in store.runs:
            report(f"keys of {state.info.run_id}")
            is_whole = state.n_complete == state.info.n_shards
            problems += _check_keys(con, state.info, is_whole)
    return problems


_AGAIN = "run: energylens index"
_COPY = "restore the file from a copy"
_NO_LIST = "there is no such file, and so nothing tells whether the files beside it are whole"


def _check_store(layout: StoreLayout) -> Iterator[Problem]:
    sums = layout.root / SUMS
    if layout.catalog.exists() and read_format(layout.root) > 1 and not sums.exists():
        yield Problem(str(sums), _NO_LIST, _AGAIN)
    try:
        if what := wrong_with(layout.catalog):
            yield Problem(str(layout.catalog), what, _AGAIN)
    except EnergyLensError as error:
        yield Problem(str(sums), str(error), f"delete it and {_AGAIN}")


def _check_files(run: RunLayout) -> Iterator[Problem]:
    if not os.path.lexists(run.run_json):
        if any(run.root.rglob("*.parquet")):
            yield Problem(str(run.run_json), "there is none, though a run lies beside it", _COPY)
        return
    try:
        read_run(run.run_json)
    except EnergyLensError as error:
        yield Problem(str(run.run_json), str(error), _COPY)
        return
    if is_sealed(run.run_json) and not (run.root / SUMS).exists():
        remedy = "restore it from a copy, or note something on a feature, which makes it again"
        yield Problem(str(run.root / SUMS), _NO_LIST, remedy)
    later = [directory for directory in (run.index, run.measured) if os.path.lexists(directory)]
    for directory in [*run.shard_directories(), *later]:
        yield from _check_directory(directory, directory in later)
    for table in BESIDE_TABLES:
        path = run.beside(table.name)
        try:
            read_rows(path, table)
        except EnergyLensError as error:
            yield Problem(str(path), str(error), _COPY)
    if _index_is_stale(run):
        what = "computed from other shards, or by an older version"
        yield Problem(str(run.index), what, _AGAIN)


def _check_directory(directory: Path, is_later: bool) -> Iterator[Problem]:
    """The files of a directory against its manifest; one made after the ingest may be of an older
    version."""
    remedy = f"delete '{directory}' and run the same command again"
    if not os.path.lexists(directory / "manifest.json"):
        yield Problem(str(directory), "it has no manifest.json", remedy)
        return
    try:
        manifest = read_manifest(directory)
    except EnergyLensError as error:
        yield Problem(str(directory), str(error), remedy)
        return
    is_old = is_later and has_old_columns(manifest.made_from)
    for entry in manifest.files:
        if what := _damage(directory, entry, is_old):
            yield Problem(str(directory / entry.path), what, remedy)
    listed = {entry.path for entry in manifest.files}
    for stray in directory.rglob("*.parquet"):
        if stray.relative_to(directory).as_posix() not in listed:
            yield Problem(str(stray), "no manifest lists this file", "delete the file")


def _index_is_stale(run: RunLayout) -> bool:
    try:
        return index_state(run) == "stale"
    except EnergyLensError:
        return False  # an unreadable manifest is reported on its own


def _damage(directory: Path, entry: FileEntry, is_old: bool) -> str | None:
    """What is wrong with a file; one of an older version may have other columns."""
    path, table = directory / entry.path, entry.table
    if not path.is_file():
        return "the file is missing"
    try:
        if entry_of(directory, path, table, entry.rows).sha256 != entry.sha256:
            return "its checksum is not that of the manifest: the file was changed or damaged"
        parquet = pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        return f"cannot be read: {error}"
    if parquet.metadata.num_rows != entry.rows:
        return f"holds {parquet.metadata.num_rows} rows, its manifest says {entry.rows}"
    if table not in TABLES:
        return f"is of the table {table}, which there is not"
    if not is_old and parquet.schema_arrow.names != TABLES[table].arrow.names:
        return f"has columns {parquet.schema_arrow.names}, not those of the table {table}"
    return None


_DUPLICATES = """
SELECT count(*) FROM (
    SELECT 1 FROM {table} WHERE run_id = $run_id GROUP BY {key} HAVING count(*) > 1
)
"""
_ORPHANS = """
SELECT count(*) FROM {table} AS child ANTI JOIN {parent} AS parent USING ({key})
WHERE child.run_id = $run_id
"""
_PARENTS = (
    ("contexts", "texts", "run_id, text_id"),
    ("tokens", "contexts", "run_id, context_id"),
    ("codes", "tokens", "run_id, token_index"),
    ("energies", "tokens", "run_id, token_index"),
    ("activations", "tokens", "run_id, token_index"),
    ("activation_norms", "tokens", "run_id, token_index"),
    ("activation_sums", "tokens", "run_id, token_index"),
    ("energy_gradients", "tokens", "run_id, token_index"),
    ("routing", "tokens", "run_id, token_index"),
    ("routing_tokens", "tokens", "run_id, token_index"),
    ("codes", "saes", "run_id, sae_id"),
    ("feature_codes", "tokens", "run_id, token_index"),
    ("head_pairs", "tokens", "run_id, token_index"),
    ("head_pairs", "heads", "run_id, layer, head"),
    ("skip_trigrams", "heads", "run_id, layer, head"),
)
_OF_HEADS = ("head_pairs", "skip_trigrams")
_IN_OTHER_SHARDS = (("contexts", "texts"), ("head_pairs", "tokens"))
"""Rows whose parents may lie in a shard that is still to come."""
_RANGES = (
    (
        "tokens whose token_index is not context_id * n_ctx + pos",
        "SELECT count(*) FROM tokens JOIN runs USING (run_id) WHERE run_id = $run_id AND "
        "(token_index <> context_id * n_ctx + pos OR pos < 0 OR pos >= n_ctx)",
    ),
    (
        "codes with a feature_id outside its SAE",
        "SELECT count(*) FROM codes JOIN saes USING (run_id, sae_id) WHERE run_id = $run_id AND "
        "(feature_id < 0 OR feature_id >= d_sae)",
    ),
    (
        "codes that are zero or no number",
        "SELECT count(*) FROM codes WHERE run_id = $run_id AND "
        "(activation = 0 OR isnan(activation) OR isinf(activation))",
    ),
    (
        "energies below zero or no number",
        "SELECT count(*) FROM tokens WHERE run_id = $run_id AND (energy < 0 OR isnan(energy))",
    ),
    (
        "contexts whose tokens are not as many as n_tokens says",
        "SELECT count(*) FROM (SELECT context_id, count(*) AS n FROM tokens WHERE run_id = $run_id "
        "GROUP BY context_id) AS t JOIN contexts AS c ON c.run_id = $run_id AND "
        "c.context_id = t.context_id WHERE t.n <> c.n_tokens",
    ),
)

_OF_GRAPHS = (
    *(
        (
            f"keys of {table.name} that stand there twice",
            f"SELECT count(*) FROM (SELECT 1 FROM {table.name} GROUP BY {', '.join(table.key)} "  # noqa: S608
            "HAVING count(*) > 1)",
        )
        for table in GRAPH_TABLES
    ),
    *(
        (
            f"rows of {table} whose graph is not there",
            f"SELECT count(*) FROM {table} ANTI JOIN graphs USING (graph_id)",  # noqa: S608
        )
        for table in ("graph_nodes", "graph_links", "graph_supernodes")
    ),
    (
        "ends of links whose nodes are not there",
        "SELECT count(*) FROM (SELECT graph_id, unnest([source, target]) AS number FROM "
        "graph_links) AS e ANTI JOIN graph_nodes USING (graph_id, number) WHERE number IS NOT NULL",
    ),
    (
        "graphs whose nodes or links are not as many as they say",
        "SELECT count(*) FROM graphs AS g WHERE n_nodes <> (SELECT count(*) FROM graph_nodes AS n "
        "WHERE n.graph_id = g.graph_id) OR n_links <> (SELECT count(*) FROM graph_links AS l "
        "WHERE l.graph_id = g.graph_id)",
    ),
)

_READ_ALL = "SET disabled_optimizers = 'filter_pushdown,statistics_propagation'"
"""Else DuckDB answers from the least and the largest value of a file, which leave NaN out."""


def _check_keys(con: duckdb.DuckDBPyConnection, run: RunInfo, is_whole: bool) -> Iterator[Problem]:
    remedy = "delete the shards this run has more than once, or ingest it into a new store"
    parameters = {"run_id": run.run_id}
    for table in TABLES.values():
        if table.place == "store":
            continue
        query = _DUPLICATES.format(table=table.name, key=", ".join(table.key))
        if n := _count(con, query, parameters):
            yield Problem(run.run_id, f"{n:,} keys of {table.name} stand there twice", remedy)
    for child, parent, key in _PARENTS:
        if (child, parent) in _IN_OTHER_SHARDS and not is_whole:
            continue
        query = _ORPHANS.format(table=child, parent=parent, key=key)
        if n := _count(con, query, parameters):
            what = f"{n:,} rows of {child} have no row in {parent}"
            again = "run: energylens heads" if child in _OF_HEADS else remedy
            yield Problem(run.run_id, what, again)
    con.execute(_READ_ALL)
    for what, query in _RANGES:
        if n := _count(con, query, parameters):
            yield Problem(run.run_id, f"{n:,} {what}", remedy)
    con.execute("RESET disabled_optimizers")


def _check_graphs(con: duckdb.DuckDBPyConnection) -> Iterator[Problem]:
    for what, query in _OF_GRAPHS:
        if n := _count(con, query, {}):
            yield Problem(
                "graphs", f"{n:,} {what}", "delete the folder and import the graphs again"
            )


def _count(con: duckdb.DuckDBPyConnection, query: str, parameters: dict[str, str]) -> int:
    row = con.execute(query, parameters).fetchone()
    assert row is not None, "count(*) returns one row"
    return int(row[0])
