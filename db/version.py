"""The store's format: a newer one is refused, an older one read, and raised by who writes."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from energylens.db.claim import PATIENCE, claim
from energylens.db.layout import StoreLayout
from energylens.db.records import RecordError, read_record, sealed
from energylens.db.sums import begin_sums
from energylens.db.whole import partial_of, write_whole, writing
from energylens.errors import StoreError, StoreVersionError

FORMAT = 2
"""The format this program writes. 1 had records without seals; it is read as it is, and becomes 2
with the first change."""
_OLDEST = 1


@dataclass(frozen=True)
class _Format:
    """The record `store.json`."""

    format: int


def create_store(path: Path) -> None:
    """Make an empty store, or check that what is there is one, and one to be written to.

    Raises:
        StoreError: the directory holds something else, or cannot be written.
        StoreVersionError: another format version wrote it and it cannot be read.
    """
    layout = StoreLayout(path)
    if not layout.store_json.exists():
        if path.exists() and not (path.is_dir() and _is_free(layout)):
            raise StoreError(f"'{path}' exists and is no store; give a path that is free")
        with claim(layout.lock, f"the store '{path}'", "try again", PATIENCE):
            if not layout.store_json.exists():
                with writing(f"the store '{path}'", "nothing was there before"):
                    (path / "runs").mkdir(exist_ok=True)
                    write_whole(layout.store_json, sealed(_Format(FORMAT)))
    raise_format(path)


def _is_free(layout: StoreLayout) -> bool:
    """Whether a directory holds nothing but what making a store leaves where it is stopped."""
    ours = {layout.lock.name, partial_of(layout.store_json).name, "store.partial"}
    rest = [path for path in layout.root.iterdir() if path.name not in ours]
    return all(path.name == "runs" and path.is_dir() and not any(path.iterdir()) for path in rest)


def check_format(path: Path) -> int:
    """The format of a store, if this program can read it.

    Raises:
        StoreError: there is no store.
        StoreVersionError: the store is newer, too old, or does not state its format.
    """
    found = read_format(path)
    if found > FORMAT:
        raise StoreVersionError(
            f"'{path}' has store format {found}, this program reads up to {FORMAT}; "
            "install a newer Energy-Lens"
        )
    if found < _OLDEST:
        raise StoreVersionError(
            f"'{path}' has store format {found}, which this program no longer reads; "
            "ingest the texts again"
        )
    return found


def read_format(path: Path) -> int:
    """The format a store states.

    Raises:
        StoreError: there is no store.
        StoreVersionError: it does not state its format.
    """
    record = StoreLayout(path).store_json
    if not os.path.lexists(record):
        raise StoreError(
            f"there is no store at '{path}' (no store.json); "
            f"make one with: energylens ingest {path} --model ... --texts ..."
        )
    try:
        return read_record(record, _Format).format
    except RecordError as error:
        if (newer := _newer(record)) is not None:
            return newer
        raise StoreVersionError(
            f"'{record}' does not state a format ({error}); restore the file from a copy"
        ) from error


def _newer(record: Path) -> int | None:
    """The format of a record that may have fields this program does not know; None where it is
    none, or not newer."""
    try:
        found = json.loads(record.read_bytes())["format"] if record.is_file() else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return found if isinstance(found, int) and found > FORMAT else None


def raise_format(path: Path) -> None:
    """Make a store, which is about to be written to, one of today's format: an older program then
    refuses it, and does not misread what it does not know.

    Raises:
        StoreError: there is no store, or it cannot be written.
        StoreVersionError: it cannot be read.
    """
    if check_format(path) == FORMAT:
        return
    layout = StoreLayout(path)
    with (
        claim(layout.lock, f"the store '{path}'", "try again", PATIENCE),
        writing(f"'{layout.store_json}'"),
    ):
        begin_sums(path)
        write_whole(layout.store_json, sealed(_Format(FORMAT)))
