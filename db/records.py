"""Read the JSON records of a store: typed, and believed in nothing that could lead out of it.

A store may come from a stranger. A name in a record that becomes a path is checked here and nowhere
else; links are not followed, for a store holds none: it is the place itself that may be a link.
"""

import hashlib
import json
import os
import re
import stat
from dataclasses import asdict, is_dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import msgspec

Record = TypeVar("Record")

_MOST_BYTES = 1 << 28
_SEAL = re.compile(rb',\n "seal": "([0-9a-f]{64})"\n}')


class RecordError(Exception):
    """What is wrong with a record; its reader says what to do about it."""


def sealed(record: object) -> str:
    """The JSON of a dataclass, with a checksum of all that stands before it as its last field."""
    assert is_dataclass(record) and not isinstance(record, type)
    body = json.dumps(asdict(record), indent=1, ensure_ascii=False)
    seal = hashlib.sha256(body.encode()).hexdigest()
    return f'{body.removesuffix("}").rstrip()},\n "seal": "{seal}"\n}}'


def is_sealed(path: Path) -> bool:
    """Whether a record was written with a seal, as from version 0.2 on."""
    return _SEAL.search(path.read_bytes()) is not None


def read_record(path: Path, kind: type[Record]) -> Record:
    """A dataclass from the JSON file that holds its fields and no others, and a seal that fits or
    none.

    Raises:
        RecordError: the file is none, or not what it should be; the message names the field.
    """
    try:
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode):
            raise RecordError("it is no plain file")
        if found.st_size > _MOST_BYTES:
            raise RecordError(f"it has {found.st_size:,} bytes")
        content = path.read_bytes()
        raw = json.loads(content)
        json.dumps(raw, ensure_ascii=False).encode()  # JSON can hold text that UTF-8 cannot
        has_seal = isinstance(raw, dict) and raw.pop("seal", None) is not None
        record = msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise RecordError(str(error)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise RecordError(str(error)) from error
    unknown = _unknown(raw, msgspec.to_builtins(record))
    if unknown:
        raise RecordError(f"it has a field '{unknown}', which is none of them")
    if has_seal and not _fits(content):
        raise RecordError("it was changed or damaged since it was written: its seal does not fit")
    return record


def _fits(content: bytes) -> bool:
    """Whether the checksum at the end is that of the rest."""
    found = _SEAL.search(content)
    if found is None or found.end() != len(content):
        return False
    body = content[: found.start()] + b"\n}"
    return hashlib.sha256(body).hexdigest().encode() == found[1]


def inside(directory: Path, name: str) -> Path:
    """The file of a directory that a record names, such as `codes.parquet` or `efas/x.parquet`.

    Raises:
        RecordError: the name leads elsewhere, or is none that a file can have.
    """
    parts = PurePosixPath(name).parts
    is_plain = "/".join(parts) == name and not {"..", ".", "/"}.intersection(parts)
    if not parts or not is_plain or "\0" in name or "\\" in name:
        raise RecordError(f"it names the file {name!r}, which is no place in its directory")
    path = directory
    for part in parts:
        path = path / part
        refuse_link(path)
    return path


def refuse_link(path: Path) -> None:
    """Make sure that a place in a store is in the store.

    Raises:
        RecordError: it is a link, or cannot be looked at.
    """
    try:
        is_link = path.is_symlink()
    except OSError as error:
        raise RecordError(f"'{path}': {error.strerror}") from error
    if is_link:
        raise RecordError(f"'{path}' is a link; put what it leads to in its place")


def refuse_links(path: Path) -> None:
    """Make sure that a place in a store, which is about to be written to, is in the store.

    Raises:
        RecordError: it, or a directory of the store on the way to it, is a link.
    """
    above = list(path.parents)
    roots = [n for n, place in enumerate(above) if os.path.lexists(place / "store.json")]
    for place in (path, *above[: roots[-1]]) if roots else (path,):
        refuse_link(place)


def _unknown(raw: Any, known: Any) -> str | None:
    """The first field of a record's JSON that the record does not have."""
    if isinstance(raw, dict):
        for name, value in raw.items():
            if name not in known:
                return name
            if (found := _unknown(value, known[name])) is not None:
                return found
    elif isinstance(raw, list):
        for one, other in zip(raw, known, strict=True):
            if (found := _unknown(one, other)) is not None:
                return found
    return None
