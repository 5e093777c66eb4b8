"""The folder `graphs` of a store: files of some graphs each, content-named, listed by one manifest.

The folder is replaced as a whole, as an index is: who has opened the old one never reads half of
the new one. A part holds the graphs of one import; a graph that is taken out leaves its part, which
is written anew without it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from energylens.db.claim import PATIENCE, claim
from energylens.db.graphs import GRAPH_TABLES, GRAPHS
from energylens.db.index_files import IndexWriter, entries_of, put_back, replaced
from energylens.db.layout import StoreLayout
from energylens.db.manifest import FileEntry, check_file
from energylens.db.version import raise_format
from energylens.db.whole import open_plain, writing
from energylens.errors import StoreDamagedError, StoreError

Rows = Mapping[str, pa.Table]
"""The rows of some graphs, by table."""
_SUM = pa.schema([GRAPHS.arrow.field(name) for name in ("graph_id", "sha256", "joined")])


class Sum(NamedTuple):
    """What tells a stored graph from another one of its id."""

    sha256: str
    joined: str | None
    """Where its features are joined to, as the table `graphs` has it."""


class GraphFolder:
    """The folder of a store, held by its claim; made by `claim_graphs`."""

    def __init__(self, layout: StoreLayout) -> None:
        self._layout = layout
        self.sums = stored_graphs(layout)
        """Of each graph that is there, by its id."""

    def put(self, rows: Sequence[Rows]) -> None:
        """Put the rows of some graphs in, in place of graphs of the same ids; each call is whole or
        has not been.

        Raises:
            StoreError: the disk cannot be written; the old folder stays.
        """
        together = {t.name: pa.concat_tables(one[t.name] for one in rows) for t in GRAPH_TABLES}
        sums, directory = _by_id(together["graphs"]), self._layout.graphs
        with writing(f"'{directory}'"), replaced(directory, ()) as writer:
            for entries in _parts(directory).values():
                _keep(writer, directory, entries, sums.keys())
            _write(writer, together)
        self.sums |= sums


def stored_graphs(layout: StoreLayout) -> dict[str, Sum]:
    """The graphs of a store by their ids.

    Raises:
        StoreDamagedError: a file is not what its manifest says.
    """
    found: dict[str, Sum] = {}
    for entries in _parts(layout.graphs).values():
        found |= _sums(layout.graphs, entries)
    return found


@contextmanager
def claim_graphs(layout: StoreLayout) -> Iterator[GraphFolder]:
    """Keep others from changing the graphs of a store.

    Raises:
        StoreBusyError: another process takes graphs in.
        StoreError: the store cannot be written.
    """
    what = f"the graphs of '{layout.root}'"
    with claim(graphs_lock(layout), what, "wait for it, then try again", PATIENCE):
        raise_format(layout.root)
        with writing(what):
            put_back(layout.graphs)
        yield GraphFolder(layout)


def graphs_lock(layout: StoreLayout) -> Path:
    """What who takes graphs in holds."""
    return layout.root / ".graphs.lock"


def merge_graphs(source: StoreLayout, target: StoreLayout) -> int:
    """Take in the graphs that another store has and this one lacks; how many.

    Raises:
        StoreError: the two hold different graphs under one name.
        StoreDamagedError: a file is not what its manifest says.
    """
    theirs = stored_graphs(source)
    if not theirs:
        return 0
    with claim_graphs(target) as folder:
        wanted = _wanted(source, target, theirs, folder.sums)
        rows = []
        for entries in _parts(source.graphs).values() if wanted else ():
            for entry in entries:
                check_file(source.graphs, entry)
            rows.append(_some(_read(source.graphs, entries), wanted, is_in=True))
        if rows:
            folder.put(rows)
    return len(wanted)


def _wanted(
    source: StoreLayout, target: StoreLayout, theirs: Mapping[str, Sum], ours: Mapping[str, Sum]
) -> Set[str]:
    for graph_id in sorted(theirs.keys() & ours.keys()):
        if theirs[graph_id].sha256 != ours[graph_id].sha256:
            raise StoreError(
                f"'{source.root}' and '{target.root}' have different graphs called '{graph_id}'; "
                "import the one that is wanted into the second with --replace, or rename its slug"
            )
    return theirs.keys() - ours.keys()


def graph_rows(layout: StoreLayout, graph_id: str) -> Rows | None:
    """All rows of one graph, in their order; None where there is none of this id."""
    for entries in _parts(layout.graphs).values():
        if graph_id in _sums(layout.graphs, entries):
            return _some(_read(layout.graphs, entries), {graph_id}, is_in=True)
    return None


def _parts(directory: Path) -> dict[str, list[FileEntry]]:
    """The files of each part of a folder."""
    found: dict[str, list[FileEntry]] = {}
    for place, entry in entries_of(directory).items():
        found.setdefault(PurePosixPath(place).stem, []).append(entry)
    for part, entries in found.items():
        if {entry.table for entry in entries} != {table.name for table in GRAPH_TABLES}:
            raise StoreDamagedError(
                f"'{directory}/manifest.json' lists no whole part '{part}'; delete '{directory}' "
                "and import the graphs again"
            )
    return found


def _sums(directory: Path, entries: list[FileEntry]) -> dict[str, Sum]:
    """The graphs of a part by their ids."""
    entry = next(entry for entry in entries if entry.table == GRAPHS.name)
    return _by_id(_table(directory / entry.path, _SUM))


def _by_id(graphs: pa.Table) -> dict[str, Sum]:
    rows = graphs.select(_SUM.names).to_pylist()
    return {row["graph_id"]: Sum(row["sha256"], row["joined"]) for row in rows}


def _keep(writer: IndexWriter, directory: Path, entries: list[FileEntry], gone: Set[str]) -> None:
    """Keep a part, without some graphs."""
    if gone.isdisjoint(_sums(directory, entries)):
        for entry in entries:
            writer.keep(directory, entry)
        return
    for entry in entries:
        check_file(directory, entry)
    rest = _some(_read(directory, entries), gone, is_in=False)
    if rest["graphs"].num_rows:
        _write(writer, rest)


def _write(writer: IndexWriter, rows: Rows) -> None:
    part = hashlib.sha256(repr(_by_id(rows["graphs"])).encode()).hexdigest()[:16]
    for table in GRAPH_TABLES:
        with writer.table(table.name, part) as out:
            out.write(rows[table.name])


def _read(directory: Path, entries: list[FileEntry]) -> dict[str, pa.Table]:
    schemas = {table.name: table.arrow for table in GRAPH_TABLES}
    return {e.table: _table(directory / e.path, schemas[e.table]) for e in entries}


def _some(rows: Rows, ids: Set[str], is_in: bool) -> dict[str, pa.Table]:
    chosen = pc.field("graph_id").isin(sorted(ids))
    return {name: rows[name].filter(chosen if is_in else ~chosen) for name in rows}


def _table(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        with open_plain(path) as file:
            return pq.read_table(file, columns=schema.names).cast(schema)
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise StoreDamagedError(
            f"'{path}' cannot be read ({error}); delete '{path.parents[1]}' and import the graphs "
            "again"
        ) from error
