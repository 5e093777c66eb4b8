"""What a finished directory of Parquet files holds: rows, sizes and checksums."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from energylens.db.records import RecordError, inside, read_record, refuse_link, sealed
from energylens.db.whole import open_plain, write_whole
from energylens.errors import StoreDamagedError

_PIECE = 1 << 20
"""Bytes copied at once."""


@dataclass(frozen=True)
class FileEntry:
    """One Parquet file of a manifest."""

    table: str
    path: str
    """Relative to the manifest's directory."""
    rows: int
    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class Machine:
    """What decides how a model's sums are rounded: equal machines make equal bytes."""

    torch: str
    """Version."""
    cpu: str
    """The vector instructions torch uses, such as AVX2."""
    blas: str
    """The library that multiplies matrices, and its version where it is known."""
    threads: int
    """That one multiplication is shared by."""


@dataclass(frozen=True)
class Manifest:
    """All files of one shard, or of one index."""

    files: tuple[FileEntry, ...]
    made_from: tuple[str, ...] = ()
    """For an index: `<shard>:<fingerprint>` of each shard it was computed from."""
    made_on: Machine | None = None
    """For a shard: what computed it; None where nobody said, as before version 0.2."""

    def rows(self, table: str) -> int:
        """Rows of one table."""
        return sum(entry.rows for entry in self.files if entry.table == table)

    @property
    def fingerprint(self) -> str:
        """Changes when any file's content does."""
        joined = "".join(sorted(f"{e.path}:{e.sha256};" for e in self.files))
        return hashlib.sha256(joined.encode()).hexdigest()[:16]


def entry_of(root: Path, path: Path, table: str, rows: int) -> FileEntry:
    """Measure one finished file."""
    with open_plain(path) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(table, path.relative_to(root).as_posix(), rows, path.stat().st_size, digest)


def check_file(directory: Path, entry: FileEntry) -> None:
    """Make sure that a file is what its manifest says.

    Raises:
        StoreDamagedError: it is not, or cannot be read.
    """
    path = directory / entry.path
    try:
        found = entry_of(directory, path, entry.table, entry.rows)
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error
    if found != entry:
        raise damaged(path, "it is not what its manifest says")


def copy_file(directory: Path, entry: FileEntry, copy: Path) -> None:
    """Copy a file and make sure that what was read is what its manifest says.

    Raises:
        StoreDamagedError: it is not, or cannot be read.
        OSError: the copy cannot be written.
    """
    path, digest = directory / entry.path, hashlib.sha256()
    with _opened(path) as source, copy.open("xb") as target:
        while piece := _read(source, path):
            digest.update(piece)
            target.write(piece)
        target.flush()
        os.fsync(target.fileno())
    if digest.hexdigest() != entry.sha256:
        raise damaged(path, "it is not what its manifest says")


def _opened(path: Path) -> BinaryIO:
    try:
        return open_plain(path)
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error


def _read(source: BinaryIO, path: Path) -> bytes:
    """The next piece; a source that cannot be read is not taken for a target that cannot be
    written."""
    try:
        return source.read(_PIECE)
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error


def damaged(path: Path, what: str) -> StoreDamagedError:
    """The error that names a damaged file of a shard and says how to come by a whole one."""
    return StoreDamagedError(
        f"'{path}' is damaged: {what}; delete '{path.parent}', run again the ingest or recompute "
        "that made it, and then this command"
    )


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write `manifest.json` under a temporary name, flush it to the disk, rename it."""
    write_whole(directory / "manifest.json", sealed(manifest))


def read_manifest(directory: Path) -> Manifest:
    """The manifest of a shard or an index.

    Raises:
        StoreDamagedError: it is not what `write_manifest` writes.
    """
    path = directory / "manifest.json"
    try:
        for place in (directory.parent, directory):
            refuse_link(place)
        manifest = read_record(path, Manifest)
        for entry in manifest.files:
            inside(directory, entry.path)
        return manifest
    except RecordError as error:
        raise StoreDamagedError(
            f"'{path}' cannot be read ({error}); delete '{directory}' and run the same ingest "
            "or index command again"
        ) from error
