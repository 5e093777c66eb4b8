"""What a person notes about features."""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from energylens.db.beside import read_rows, replace_rows
from energylens.db.claim import claim_run
from energylens.db.layout import RunLayout
from energylens.db.table import FEATURE, RUN, SAE, Column, Table

NOTES = Table(
    "notes",
    "What a person has noted about a feature; never derived, never overwritten by an index.",
    "beside",
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
    with claim_run(run):
        kept = {_key(old): old for old in read_notes(run.notes)}
        kept.pop(_key(note), None)
        if note.is_starred or note.note:
            now = datetime.now(UTC).isoformat(timespec="microseconds")
            kept[_key(note)] = replace(note, changed=now)
        _replace(run.notes, list(kept.values()))


def read_notes(path: Path) -> list[Note]:
    """The notes of a file; none where there is no file.

    Raises:
        StoreDamagedError: the file is not one that `write_note` writes.
    """
    return [Note(**row) for row in read_rows(path, NOTES)]


def merge_notes(source: RunLayout, target: RunLayout) -> None:
    """Take in the notes of another copy of a run; of two about one feature the later stays."""
    if not source.notes.exists():
        return
    with claim_run(target):
        both = [*read_notes(source.notes), *read_notes(target.notes)]
        latest = {_key(note): note for note in sorted(both, key=lambda note: note.changed)}
        _replace(target.notes, list(latest.values()))


def _key(note: Note) -> tuple[str, int]:
    return note.sae_id, note.feature_id


def _replace(path: Path, notes: list[Note]) -> None:
    replace_rows(path, NOTES, (asdict(note) for note in sorted(notes, key=_key)))
