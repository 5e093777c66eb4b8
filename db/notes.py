"""What a person notes about features: the one table of a store that is written by hand."""

import os
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from db.claim import claim
from db.layout import RunLayout
from db.parquet import TableWriter
from db.table import FEATURE, RUN, SAE, Column, Table
from energylens.errors import StoreDamagedError, StoreError

NOTES = Table(
    "notes",
    "What a person has noted about a feature; never derived, never overwritten by an index.",
    "notes",
    ("run_id", "sae_id", "feature_id"),
    (
        RUN,
        SAE,
        FEATURE,
        Column("is_starred", pa.bool_(), "the feature has a star"),
        Column("note", pa.string(), "the note; NULL where there is only a star"),
        Column("changed", pa.string(), "when it was last changed, ISO 8601 in UTC"),
    ),
)


@dataclass(frozen=True)
class Note:
    """A row of `notes`."""

    run_id: str
    sae_id: str
    feature_id: int
    is_starred: bool = False
    note: str | None = None
    changed: str = ""


def write_note(run: RunLayout, note: Note) -> None:
    """Keep a note in place of the feature's last one; one without star and text is removed.

    Raises:
        StoreBusyError: another process writes notes of this run just now.
        StoreError: the disk cannot be written.
    """
    with _claimed(run):
        kept = {_key(old): old for old in read_notes(run.notes)}
        kept.pop(_key(note), None)
        if note.is_starred or note.note:
            now = datetime.now(UTC).isoformat(timespec="microseconds")
            kept[_key(note)] = Note(**{**asdict(note), "changed": now})
        _replace(run.notes, list(kept.values()))


def read_notes(path: Path) -> list[Note]:
    """The notes of a file; none where there is no file.

    Raises:
        StoreDamagedError: the file is not one that `write_note` writes.
    """
    if not path.exists():
        return []
    try:
        return [Note(**row) for row in pq.read_table(path, schema=NOTES.arrow).to_pylist()]
    except (OSError, pa.ArrowException, TypeError) as error:
        raise StoreDamagedError(
            f"'{path}' does not hold notes ({error}); restore it from a copy, or move it away"
        ) from error


def merge_notes(source: RunLayout, target: RunLayout) -> None:
    """Take in the notes of another copy of a run; of two about one feature the later stays."""
    if not source.notes.exists():
        return
    with _claimed(target):
        both = [*read_notes(source.notes), *read_notes(target.notes)]
        latest = {_key(note): note for note in sorted(both, key=lambda note: note.changed)}
        _replace(target.notes, list(latest.values()))


def _claimed(run: RunLayout) -> AbstractContextManager[None]:
    return claim(run.root / ".notes.lock", f"the file of notes of '{run.root.name}'", "try again")


def _key(note: Note) -> tuple[str, int]:
    return note.sae_id, note.feature_id


def _replace(path: Path, notes: list[Note]) -> None:
    """Write the file whole or not at all."""
    partial = path.with_suffix(f".partial-{os.getpid()}")
    ordered = sorted(notes, key=_key)
    try:
        with TableWriter(partial, NOTES) as out:
            rows = [asdict(note) for note in ordered]
            out.write(pa.Table.from_pylist(rows, schema=NOTES.arrow))
        partial.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)
