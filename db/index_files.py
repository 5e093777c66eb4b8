"""The index directory of a run: replaced as a whole, and told stale from fresh."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from energylens.db.claim import claim
from energylens.db.layout import RunLayout, file_name
from energylens.db.manifest import (
    FileEntry,
    Manifest,
    entry_of,
    read_manifest,
    sync,
    write_manifest,
)
from energylens.db.parquet import TableWriter
from energylens.db.schema import TABLES
from energylens.errors import StoreError

_VECTORS = {"activations", "energy_gradients"}

IndexState = Literal["fresh", "stale", "missing"]
"""fresh: computed from exactly the shards that are there now."""


class IndexWriter:
    """Collects the derived tables of one run; made by `replace_index`."""

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

    def keep(self, index: Path, entry: FileEntry) -> None:
        """Take over a file of the index that is being replaced, as it is."""
        path = self.directory / entry.path
        path.parent.mkdir(exist_ok=True)
        path.hardlink_to(index / entry.path)
        self._files.append((path, entry.table, entry.rows))

    def path(self, name: str, sae_id: str | None) -> Path:
        """Where the file of one table of one SAE, or of the run, lies while the index is made."""
        path = self.directory / name / _file(sae_id)
        path.parent.mkdir(exist_ok=True)
        return path

    def manifest(self, made_from: tuple[str, ...]) -> Manifest:
        """Flush and measure every file."""
        entries = []
        for path, name, rows in self._files:
            sync(path)
            entries.append(entry_of(self.directory, path, name, rows))
        return Manifest(tuple(entries), made_from)


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


def index_state(run: RunLayout) -> IndexState:
    """Whether the index is there and computed from the shards that are there."""
    if not (run.index / "manifest.json").exists():
        return "missing"
    return "fresh" if read_manifest(run.index).made_from == shard_fingerprints(run) else "stale"


@contextmanager
def extend_index(
    run: RunLayout, tables: tuple[str, ...], sae_id: str | None = None
) -> Iterator[IndexWriter]:
    """Replace some tables, of one SAE where their rows are, and keep the rest of the index.

    Raises:
        StoreBusyError: another process is making this index.
        StoreError: the disk is full or cannot be written; the old index stays.
    """
    changed = {f"{table}/{_file(sae_id)}" for table in tables}
    with replace_index(run) as writer:
        yield writer
        for entry in read_manifest(run.index).files:
            if entry.path not in changed:
                writer.keep(run.index, entry)


@contextmanager
def replace_index(run: RunLayout) -> Iterator[IndexWriter]:
    """Make a new index beside the old one; leaving the block without an error swaps them.

    Raises:
        StoreBusyError: another process is making this index.
        StoreError: the disk is full or cannot be written; the old index stays.
    """
    partial, old = run.root / ".index.partial", run.root / ".index.old"
    try:
        with claim(run.root / ".index.lock", f"the index of '{run.root.name}'", "wait for it"):
            try:
                made_from = shard_fingerprints(run)
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                writer = IndexWriter(partial)
                yield writer
                write_manifest(partial, writer.manifest(made_from))
                shutil.rmtree(old, ignore_errors=True)
                if run.index.exists():
                    run.index.rename(old)
                partial.rename(run.index)
                sync(run.root)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
                shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise StoreError(
            f"cannot write the index of '{run.root}': {error.strerror or error}; the old index is "
            "untouched; make room or fix the permissions, then: energylens index"
        ) from error
