"""What a person notes about features."""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from energylens.db.beside import keep_rows, merge_kept, read_rows
from energylens.db.layout import RunLayout
from energylens.db.table import FEATURE, RUN, SAE, Column, Table

NOTES = Table(
    "notes",
    "What a person has noted about a feature; never derived, never overwritten by an index. A row "
    "without star and note says that they were taken away, and when.",
    "beside",
    ("run_id", "sae_id", "feature_id"),
    (
        RUN,
        SAE,
        FEATURE,
        Column("is_starred", pa.bool_(), "the feature has a star"),
        Column("note", pa.string(), "the note; NULL where there is only a star"),
        Column("changed", pa.string(), "when it was last changed, ISO 8601 in UTC"),
        Column("author", pa.string(), "who changed it last; NULL where that is not known"),
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
    author: str | None = None


def write_note(run: RunLayout, note: Note) -> None:
    """Keep a note in place of the feature's last one, also one without star and text: that it was
    taken away is later than what another copy of the run still has.

    Raises:
        StoreBusyError: another process writes notes of this run just now.
        StoreError: the disk cannot be written.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    keep_rows(run, NOTES, [asdict(replace(note, changed=now))])


def read_notes(path: Path) -> list[Note]:
    """The notes of a file, those taken away among them; none where there is no file.

    Raises:
        StoreDamagedError: the file is not one that `write_note` writes.
    """
    return [Note(**row) for row in read_rows(path, NOTES)]


def merge_notes(source: RunLayout, target: RunLayout) -> None:
    """Take in the notes of another copy of a run; of two about one feature the later stays."""
    merge_kept(source, target, NOTES, "changed")
