"""Read texts with their categories, one at a time, from any of the accepted places."""

import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from energylens.builtin import builtin_path
from energylens.errors import TextsError

_FILE_KINDS = (".txt", ".jsonl", ".csv", ".parquet")
_CSV_FAULTS = {
    "unexpected end of data": "a quote is opened and never closed; write a quote in a text twice",
}
"""What the reader's messages mean."""


@dataclass(frozen=True)
class Text:
    """One text as its source gave it."""

    text: str
    """The text itself; may be empty. A lone surrogate, which JSON may hold and UTF-8 cannot, has
    become a question mark."""
    category: str | None
    """What kind of text it is; None where the source does not say. Of a name that is not UTF-8, the
    other bytes stand as \\xff."""
    source: str | None
    """Where it comes from; None where the source does not say."""


def iter_texts(spec: str) -> Iterator[Text]:
    """The texts of `spec`, in an order that depends on nothing but their source.

    `spec` is a directory of `<category>/*.txt` or of JSONL, CSV or Parquet files, one such file,
    one `.txt` file, or `builtin:categories`.

    Raises:
        TextsError: nothing is there, a file cannot be read or decoded, or a row has no text.
    """
    for file, category in _files(spec):
        yield from _read(file, category)


def _files(spec: str) -> list[tuple[Path, str | None]]:
    root = builtin_path("texts", spec) if spec.startswith("builtin:") else Path(spec)
    if not root.exists():
        raise TextsError(
            f"no texts at '{spec}': give a directory of <category>/*.txt, a JSONL, CSV or Parquet "
            "file with a column 'text', or builtin:categories"
        )
    if root.is_file():
        if root.suffix not in _FILE_KINDS:
            raise TextsError(f"'{root}' is none of {', '.join(_FILE_KINDS)}; rename or convert it")
        return [(root, None)]
    if not root.is_dir():
        raise TextsError(f"'{root}' is neither a file nor a directory")
    found = [(path, _category(path, root)) for path in sorted(_listed(root))]
    if not found:
        raise TextsError(f"the directory '{spec}' holds no {', '.join(_FILE_KINDS)} file")
    return found


def _listed(root: Path) -> Iterator[Path]:
    """The files of a directory and those below it; links to directories are not followed."""

    def fail(error: OSError) -> None:
        raise TextsError(f"cannot read '{error.filename}': {error.strerror}") from error

    for folder, _, names in os.walk(root, onerror=fail):
        for path in (Path(folder, name) for name in names):
            if path.suffix not in _FILE_KINDS or path.is_dir():
                continue
            if not path.is_file():  # left out in silence, it would be a text lost
                raise TextsError(f"'{path}' leads nowhere or is no plain file; take it away")
            yield path


def _category(path: Path, root: Path) -> str | None:
    inside = path.relative_to(root).parts
    if path.suffix != ".txt":
        return _name(path.stem)
    return _name(inside[0]) if len(inside) > 1 else None


def _name(name: str) -> str:
    """A file's name as text, whatever bytes it has."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def _read(file: Path, category: str | None) -> Iterator[Text]:
    try:
        if file.suffix == ".txt":
            yield Text(_decode(file.read_bytes(), str(file)), category, _name(file.name))
        elif file.suffix == ".jsonl":
            yield from _read_jsonl(file, category)
        elif file.suffix == ".csv":
            yield from _read_csv(file, category)
        else:
            yield from _read_parquet(file, category)
    except OSError as error:
        raise TextsError(f"cannot read '{file}': {error.strerror or error}") from error


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig" if data.startswith(b"\xef\xbb\xbf") else "utf-8")
    except UnicodeDecodeError as error:
        raise TextsError(
            f"{where} is not UTF-8 (byte {data[error.start]:#04x} at offset {error.start}); "
            "convert it first, for example: iconv -f latin1 -t utf-8"
        ) from error


def _read_jsonl(file: Path, category: str | None) -> Iterator[Text]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{file}, line {number},"
            try:
                row = json.loads(_decode(line, where))
            except json.JSONDecodeError as error:
                raise TextsError(f"{where} is not JSON: {error.msg}") from error
            except ValueError as error:  # Python reads no number of more than 4,300 digits
                raise TextsError(f"{where} holds a number that is too long to read") from error
            except RecursionError as error:
                raise TextsError(f"{where} is nested too deeply to read") from error
            if not isinstance(row, dict):
                raise TextsError(f"{where} is not a JSON object with a 'text'")
            yield _from_row(row, category, where)


def _read_csv(file: Path, category: str | None) -> Iterator[Text]:
    csv.field_size_limit(sys.maxsize)
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            # strict: an open quote would take all the rest for one text
            for row in (reader := csv.DictReader(lines, strict=True)):
                yield _from_row(row, category, f"{file}, line {reader.line_num},")
    except UnicodeDecodeError as error:
        raise TextsError(f"{file} is not UTF-8; convert it first") from error
    except csv.Error as error:
        raise TextsError(f"{file} is not CSV: {_CSV_FAULTS.get(str(error), error)}") from error


def _read_parquet(file: Path, category: str | None) -> Iterator[Text]:
    for number, row in enumerate(_parquet_rows(file), start=1):
        yield _from_row(row, category, f"{file}, row {number},")


def _parquet_rows(file: Path) -> Iterator[dict[str, object]]:
    import pyarrow.parquet as pq

    try:
        with file.open("rb") as opened:  # a path would give columns of the names of its folders
            parquet = pq.ParquetFile(opened)
            names = [n for n in ("text", "category", "source") if n in parquet.schema_arrow.names]
            for batch in parquet.iter_batches(columns=names):
                yield from batch.to_pylist()
    except MemoryError:
        raise
    except Exception as error:  # bytes that are not UTF-8, dates and zones there are not, and more
        raise TextsError(f"cannot read '{file}' as Parquet: {error}") from error


def _from_row(row: Mapping[str, object], category: str | None, where: str) -> Text:
    text = row.get("text")
    if isinstance(text, bytes):
        raise TextsError(f"{where} has a 'text' of bytes; make the column one of strings")
    if not isinstance(text, str):
        raise TextsError(f"{where} has no 'text' (its columns: {', '.join(map(str, row))})")
    try:
        return Text(
            text=_valid(text),
            category=_optional(row.get("category")) or category,
            source=_optional(row.get("source")),
        )
    except RecursionError as error:
        raise TextsError(f"{where} has a category or source that is nested too deeply") from error


def _optional(value: object) -> str | None:
    return None if value is None or value == "" else _valid(str(value))


def _valid(text: str) -> str:
    """The text as UTF-8 can hold it."""
    return text.encode("utf-8", errors="replace").decode("utf-8")
