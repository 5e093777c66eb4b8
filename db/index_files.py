"""The directories of tables made after the ingest: each is replaced as a whole.

The name of a file holds the beginning of its checksum, so that who has opened one index never reads
half of the next: a file that is replaced is not there any more under its old name.

The index is derived, may be deleted at any time, and is told stale from fresh. What was measured on
request cost passes of the model, so it lies apart, where no rebuild and no deletion reaches it.
"""

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq

from energylens.db.claim import PATIENCE, claim
from energylens.db.derived import INDEX_TABLES
from energylens.db.heads import HEAD_TABLES
from energylens.db.layout import RunLayout, file_name
from energylens.db.manifest import (
    FileEntry,
    Manifest,
    copy_file,
    entry_of,
    read_manifest,
    write_manifest,
)
from energylens.db.parquet import TableWriter
from energylens.db.schema import TABLES
from energylens.db.table import Table
from energylens.db.vectors import VECTOR_TABLES
from energylens.db.version import raise_format
from energylens.db.whole import discard, exchange, partial_of, sync, writing

MEASURED = (
    *("feature_effects", "effect_agreements", "energy_permutations", "anchor_ablations"),
    *("repairs", "repair_gains"),
    *(table.name for table in HEAD_TABLES),
)
"""The tables that are measured on request."""
_VECTORS = {table.name for table in VECTOR_TABLES}
_SUM = re.compile(r"@[0-9a-f]{12}(?=\.parquet$)")
"""Never part of an SAE's name: `file_name` writes @ otherwise."""

IndexState = Literal["fresh", "stale", "missing"]
"""fresh: computed from exactly the shards that are there now, with the columns there are now."""


class IndexWriter:
    """Collects tables of one run; made by `replace_index` and `add_measured`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: list[tuple[Path, str, int]] = []

    @contextmanager
    def table(self, name: str, sae_id: str | None = None) -> Iterator[TableWriter]:
        """A writer for one table, of one SAE where its rows are; rows come in the order of its
        key."""
        path = self.path(name, sae_id)
        with TableWriter(path, TABLES[name]) as writer:
            yield writer
        self._files.append((path, name, writer.rows))

    def keep(self, old: Path, entry: FileEntry) -> None:
        """Take over a file of a directory that is being replaced, as it is."""
        path = self._place(entry)
        try:
            path.hardlink_to(old / entry.path)
        except OSError:  # a file system without links
            shutil.copy2(old / entry.path, path)

    def copy(self, directory: Path, entry: FileEntry) -> None:
        """Take in a file of another store.

        Raises:
            StoreDamagedError: it is not what its manifest says.
        """
        copy_file(directory, entry, self._place(entry))

    def _place(self, entry: FileEntry) -> Path:
        """Where the copy of another directory's file is to be put."""
        path = self.directory / place_of(entry.path)
        path.parent.mkdir(exist_ok=True)
        self._files.append((path, entry.table, entry.rows))
        return path

    def path(self, name: str, sae_id: str | None) -> Path:
        """Where the file of one table of one SAE, or of the run, lies while the index is made."""
        path = self.directory / name / _file(sae_id)
        path.parent.mkdir(exist_ok=True)
        return path

    def manifest(self, made_from: tuple[str, ...]) -> Manifest:
        """Flush and measure every file, and name it for what it holds."""
        entries = []
        for path, name, rows in self._files:
            sync(path)
            entry = entry_of(self.directory, path, name, rows)
            named = path.with_name(f"{path.stem}@{entry.sha256[:12]}.parquet")
            path.rename(named)
            relative = named.relative_to(self.directory).as_posix()
            entries.append(replace(entry, path=relative))
        for folder in {path.parent for path, _, _ in self._files}:
            sync(folder)
        return Manifest(tuple(entries), made_from)


def place_of(path: str) -> str:
    """The path of a file without its checksum: the same for a table of an SAE in every index."""
    return _SUM.sub("", path)


def entries_of(directory: Path) -> dict[str, FileEntry]:
    """The files of an index by their places, such as `features/NAME.parquet`; none where there is
    none."""
    return {place_of(entry.path): entry for entry in _entries(directory)}


def index_file(run: RunLayout, table: str, sae_id: str) -> Path | None:
    """The file of the index with one table of one SAE; None where there is none."""
    entry = entries_of(run.index).get(f"{table}/{_file(sae_id)}")
    return None if entry is None else run.index / entry.path


def _file(sae_id: str | None) -> str:
    return f"{file_name(sae_id) if sae_id else 'run'}.parquet"


def shard_fingerprints(run: RunLayout) -> tuple[str, ...]:
    """What names the complete shards of a run and their contents; shards of nothing but kept
    vectors, which no index reads, are left out."""
    manifests = ((shard.name, read_manifest(shard)) for shard in run.complete_shards())
    return tuple(
        f"{name}:{manifest.fingerprint}"
        for name, manifest in manifests
        if not {entry.table for entry in manifest.files} <= _VECTORS
    )


_ADDED_ROWS = ("efas", "variant", "drop")
"""Rows that came to a table whose columns stayed the same."""


@cache
def _columns_fingerprint() -> str:
    """What names the columns of the derived tables: an index made by a version that had others is
    stale."""
    columns = [(t.name, c.name, str(c.type)) for t in INDEX_TABLES for c in t.columns]
    columns.append(_ADDED_ROWS)
    return f"columns:{hashlib.sha256(repr(columns).encode()).hexdigest()}"


def _made_from(run: RunLayout) -> tuple[str, ...]:
    return (*shard_fingerprints(run), _columns_fingerprint())


def has_old_columns(made_from: tuple[str, ...]) -> bool:
    """Whether an index was made by a version whose derived tables had other columns."""
    return _columns_fingerprint() not in made_from


def has_columns(path: Path, table: Table) -> bool:
    """Whether a file has the columns its table has now."""
    return set(table.arrow.names) <= set(pq.read_schema(path).names)


def index_state(run: RunLayout) -> IndexState:
    """Whether the index is there and computed from the shards that are there."""
    if not (run.index / "manifest.json").exists():
        return "missing"
    return "fresh" if read_manifest(run.index).made_from == _made_from(run) else "stale"


@contextmanager
def extend_index(
    run: RunLayout, tables: tuple[str, ...], sae_id: str | None = None
) -> Iterator[IndexWriter]:
    """Replace some tables, of one SAE where their rows are, and keep the rest of the index.

    Raises:
        StoreBusyError: another process is making this index.
        StoreError: the disk is full or cannot be written; the old index stays.
    """
    with replace_index(run) as writer:
        yield writer
        _keep_others(writer, run.index, tables, sae_id)


@contextmanager
def replace_index(run: RunLayout) -> Iterator[IndexWriter]:
    """Make a new index beside the old one; leaving the block without an error swaps them.

    Raises:
        StoreBusyError: another process is making this index.
        StoreError: the disk is full or cannot be written; the old index stays.
    """
    with (
        writing(f"the index of '{run.root}'", "the old index is untouched"),
        claim(index_lock(run), f"the index of '{run.root.name}'", "wait for it"),
    ):
        raise_format(run.root.parents[1])
        put_back(run.index)
        set_apart(run)
        made_from = _made_from(run)
        with replaced(run.index, made_from) as writer:
            yield writer


@contextmanager
def add_measured(
    run: RunLayout, tables: tuple[str, ...], sae_id: str | None = None
) -> Iterator[IndexWriter]:
    """Put tables that were measured on request in place of those there are, and keep the rest.

    Raises:
        StoreBusyError: another process writes them just now, and has for long.
        StoreError: the disk is full or cannot be written; what was measured before stays.
    """
    set_apart(run)
    with _measured(run) as writer:
        yield writer
        _keep_others(writer, run.measured, tables, sae_id)


def set_apart(run: RunLayout) -> None:
    """Move what was measured on request out of the index, where stores made before version 0.2
    have it. Until the index is replaced it lies in both; readers take it from its new place."""
    if any(directory == run.index for directory, _ in measured_files(run).values()):
        with _measured(run) as writer:
            for directory, entry in measured_files(run).values():
                writer.keep(directory, entry)


def measured_files(run: RunLayout) -> dict[str, tuple[Path, FileEntry]]:
    """Everything that was measured on request, by its place, with the directory it lies in."""
    return {
        place: (directory, entry)
        for directory in (run.index, run.measured)
        for place, entry in entries_of(directory).items()
        if entry.table in MEASURED
    }


def check_measurable(run: RunLayout) -> None:
    """Make sure that tables can be written, before passes of a model are spent on them.

    Raises:
        StoreBusyError: another process writes them just now, and has for long.
        StoreError: the run cannot be written to.
    """
    with _claimed(run):
        pass


@contextmanager
def _claimed(run: RunLayout) -> Iterator[None]:
    what = f"what was measured on '{run.root.name}'"
    with (
        writing(f"{what} at '{run.root}'"),
        claim(measured_lock(run), what, "try again", PATIENCE),
    ):
        yield


@contextmanager
def _measured(run: RunLayout) -> Iterator[IndexWriter]:
    with _claimed(run):
        raise_format(run.root.parents[1])
        put_back(run.measured)
        with replaced(run.measured, ()) as writer:
            yield writer


def index_lock(run: RunLayout) -> Path:
    """What who makes an index holds."""
    return run.root / ".index.lock"


def measured_lock(run: RunLayout) -> Path:
    """What who writes measured tables holds."""
    return run.root / ".measured.lock"


def put_back(directory: Path) -> None:
    """Mend what a kill during a replacement left: the new directory where it is whole and the old
    one is gone from its place, else the old one. Whoever calls it holds the directory's claim."""
    partial, old = partial_of(directory), _old_of(directory)
    if not directory.exists():
        whole = [d for d in (partial, old) if (d / "manifest.json").exists()]
        if whole:
            whole[0].rename(directory)
            sync(directory.parent)
    discard(partial)
    discard(old)


@contextmanager
def replaced(directory: Path, made_from: tuple[str, ...]) -> Iterator[IndexWriter]:
    """Make a new directory beside an old one; leaving the block without an error swaps them.
    Whoever calls it holds the directory's claim."""
    partial, old = partial_of(directory), _old_of(directory)
    try:
        partial.mkdir(parents=True)
        writer = IndexWriter(partial)
        yield writer
        write_manifest(partial, writer.manifest(made_from))
        if not (directory.exists() and exchange(partial, directory)):
            if directory.exists():
                directory.rename(old)
            partial.rename(directory)
        sync(directory.parent)
    finally:
        with suppress(OSError):  # what stopped us says more
            put_back(directory)


def _old_of(directory: Path) -> Path:
    return directory.with_name(f".{directory.name}.old")


def _keep_others(
    writer: IndexWriter, directory: Path, tables: tuple[str, ...], sae_id: str | None
) -> None:
    """Keep every file but those of some tables, of one SAE where their rows are."""
    changed = {f"{table}/{_file(sae_id)}" for table in tables}
    apart = () if directory.name == "measured" else MEASURED
    for entry in _entries(directory):
        if place_of(entry.path) not in changed and entry.table not in apart:
            writer.keep(directory, entry)


def _entries(directory: Path) -> tuple[FileEntry, ...]:
    if not (directory / "manifest.json").exists():
        return ()
    return read_manifest(directory).files
