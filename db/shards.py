"""Write one shard so that it exists whole or not at all.

Files grow in a hidden directory. When all are finished and flushed, the manifest is written and
the directory is renamed into place: readers see a shard exactly when its manifest exists.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from energylens.db.claim import claim
from energylens.db.layout import RunLayout
from energylens.db.manifest import Machine, Manifest, entry_of, write_manifest
from energylens.db.parquet import TableWriter
from energylens.db.schema import TABLES
from energylens.db.whole import fresh_partial, sync, writing
from energylens.errors import StoreBusyError, StoreDamagedError

_ADVICE = "wait for it, stop it, or share the work out with --shard any or --shard I/N"


class ShardWriter:
    """Collects the tables of one shard; made by `write_shard`."""

    def __init__(
        self, directory: Path, tables: tuple[str, ...], made_on: Machine | None = None
    ) -> None:
        self._directory, self._made_on = directory, made_on
        self._writers = {
            name: TableWriter(directory / f"{name}.parquet", TABLES[name]) for name in tables
        }

    def write(self, table: str, rows: pa.Table) -> None:
        """Append rows of one table; rows come in the order of the table's key."""
        if rows.num_rows:
            self._writers[table].write(rows)

    def rows(self, table: str) -> int:
        """Rows written so far."""
        return self._writers[table].rows

    def close(self) -> None:
        """Close all files, finished or not."""
        for writer in self._writers.values():
            writer.close()

    def finish(self) -> None:
        """Close and flush the files, then write the manifest."""
        self.close()
        entries = []
        for name, writer in self._writers.items():
            sync(writer.path)
            entries.append(entry_of(self._directory, writer.path, name, writer.rows))
        write_manifest(self._directory, Manifest(tuple(entries), made_on=self._made_on))


@contextmanager
def new_shard(run: RunLayout, number: int) -> Iterator[Path]:
    """An empty directory for one shard, claimed; leaving the block without an error, its manifest
    written, makes the shard appear.

    Raises:
        StoreBusyError: another process is writing this shard, or has just finished it.
        StoreDamagedError: what lies in its place is no shard.
        StoreError: the disk is full or cannot be written.
    """
    final = run.shard(number)
    what = f"shard {number} at '{run.shards}'"
    with (
        writing(what, "finished shards are safe"),
        claim(lock_of(run, number), f"shard {number}", _ADVICE),
    ):
        if final.exists() and not (final / "manifest.json").exists():
            raise StoreDamagedError(f"'{final}' has no manifest.json; move it away")
        if final.exists():
            raise StoreBusyError(
                f"shard {number} was finished by another process meanwhile; "
                "run the same command again to go on"
            )
        partial = fresh_partial(final)
        partial.mkdir()
        try:
            yield partial
            partial.rename(final)
            sync(run.shards)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def lock_of(run: RunLayout, number: int) -> Path:
    """What who writes a shard holds."""
    return run.shards / f".{run.shard(number).name}.lock"


@contextmanager
def write_shard(
    run: RunLayout, number: int, tables: tuple[str, ...], made_on: Machine | None = None
) -> Iterator[ShardWriter]:
    """A writer for one shard; leaving the block without an error makes the shard appear.

    `made_on` is the machine that computes its rows, where a model does.

    Raises:
        StoreBusyError: another process is writing this shard.
        StoreError: the disk is full or cannot be written.
    """
    with new_shard(run, number) as partial:
        writer = ShardWriter(partial, tables, made_on)
        try:
            yield writer
            writer.finish()
        except BaseException:
            with suppress(OSError):  # the disk is full: the error that brought us here says so
                writer.close()
            raise
