"""The checksums of the files that lie beside records and are written again: notes, explanations,
the catalogue. `sums.json` of a directory lists them, and its seal vouches for it.

While a file is replaced the list has both checksums, so that a death at any moment leaves a file
that is listed. Who replaces one holds the claim of its directory.
"""

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from energylens.db.records import RecordError, read_record, sealed
from energylens.db.whole import open_plain, sync, write_whole
from energylens.errors import StoreDamagedError

NAME = "sums.json"
LISTED = (
    *("notes.parquet", "explanations.parquet", "explanation_scores.parquet", "ratings.parquet"),
    "catalog.duckdb",
)
_TRIES = 20
"""A reader that holds no claim may come between a file and its list."""


@dataclass(frozen=True)
class Sums:
    """What a directory's listed files may be."""

    files: dict[str, list[str]] = field(default_factory=dict)
    """SHA-256 by the name of the file, '' for no file; two while it is being replaced."""


def begin_sums(directory: Path) -> None:
    """Make the list of a directory that has none, of the files that are there already, as in a
    store that version 0.1 made."""
    if not (directory / NAME).exists():
        there = [name for name in LISTED if _is_plain(directory / name)]
        _write(directory, Sums({name: [_digest(directory / name)] for name in there}))


def replace_listed(partial: Path, path: Path) -> None:
    """Put a finished file in a file's place, and its checksum on the list."""
    begin_sums(path.parent)
    sums = _read(path.parent) or Sums()
    old, new = _digest(path) if _is_plain(path) else "", _digest(partial)
    _write(path.parent, replace(sums, files={**sums.files, path.name: [old, new]}))
    partial.replace(path)
    sync(path.parent)
    _write(path.parent, replace(sums, files={**sums.files, path.name: [new]}))


def wrong_with(path: Path) -> str | None:
    """What is wrong with a listed file; None where nothing is, or no list says what it should be.

    Raises:
        StoreDamagedError: the list is damaged.
    """
    what = seen = None
    for _ in range(_TRIES):
        found = _digest(path) if _is_plain(path) else None
        sums = _read(path.parent)
        listed = sums.files.get(path.name) if sums else None
        if listed is None and (sums is None or found is None):
            return "it is no plain file" if found is None and os.path.lexists(path) else None
        if listed is not None and (found or "") in listed:
            return None
        if found is None:
            is_there = os.path.lexists(path)
            what = "it is no plain file" if is_there else "the file is missing"
        elif listed is None:
            what = f"{NAME} beside it does not list it"
        else:
            what = "its checksum is not the one it was written with: it was changed or damaged"
        if seen == (found, listed):
            break  # nobody was between the file and its list
        seen = found, listed
    return what


def check_listed(path: Path) -> None:
    """Make sure that a file is what was written.

    Raises:
        StoreDamagedError: it is not.
    """
    if what := wrong_with(path):
        raise StoreDamagedError(f"'{path}': {what}; restore it from a copy, or move it away")


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _digest(path: Path) -> str:
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(directory: Path) -> Sums | None:
    path = directory / NAME
    if not path.exists():
        return None
    try:
        return read_record(path, Sums)
    except RecordError as error:
        raise StoreDamagedError(
            f"'{path}' cannot be read ({error}); restore it from a copy, or delete it where the "
            "files beside it are known to be whole"
        ) from error


def _write(directory: Path, sums: Sums) -> None:
    write_whole(directory / NAME, sealed(sums))
