"""Read texts with their categories, one at a time, from any of the accepted places.

Every place gives its rows as functions that are called for those that are wanted: what is passed
over is neither decoded nor parsed.
"""

import csv
import hashlib
import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from energylens.builtin import builtin_path
from energylens.errors import TextsError
from energylens.ingest.hub_texts import PREFIX, hub_files, hub_rows

_FILE_KINDS = (".txt", ".jsonl", ".csv", ".parquet")
_CSV_FAULTS = {
    "unexpected end of data": "a quote is opened and never closed; write a quote in a text twice",
}
"""What the reader's messages mean."""
_IDS = "input_ids"
"""The column of texts that are tokens already, as `datasets` and sae-lens write it."""
_COLUMNS = ("text", "category", "source", _IDS, "attention_mask")


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
    ids: tuple[int, ...] | None = None
    """Vocabulary ids where the source holds tokens instead of a text, which is then empty here;
    padding is left out. None for a text."""


Row = Callable[[], Text]
"""Reads one text; raises TextsError where it cannot be."""


def iter_texts(spec: str) -> Iterator[Text]:
    """The texts of `spec`, in an order that depends on nothing but their source.

    `spec` is a directory of `<category>/*.txt` or of JSONL, CSV or Parquet files, one such file,
    one `.txt` file, `builtin:categories`, or `hf:NAME[:split]`.

    Raises:
        TextsError: nothing is there, a file cannot be read or decoded, or a row has no text.
    """
    for row in text_rows(spec):
        text = row()
        if text.ids is not None:
            raise TextsError(
                f"'{spec}' holds tokens in a column '{_IDS}' and no column 'text': tokens can be "
                "ingested with the model they were made for; this needs texts"
            )
        yield text


def text_rows(spec: str) -> Iterator[Row]:
    """The same, to be read one by one, texts that are tokens already among them.

    Raises:
        TextsError: nothing is there, or a file cannot be read or decoded.
    """
    if spec.startswith(PREFIX):
        for number, row in enumerate(hub_rows(spec), start=1):
            yield partial(_from_row, row, None, f"{spec}, row {number},")
        return
    for file, category in _files(spec):
        yield from _read(file, category)


def source_sha256(spec: str) -> str:
    """SHA-256 over what the texts are read from, without reading them as texts: names and bytes of
    the files, or a commit of the hub.

    Raises:
        TextsError: nothing is there, or a file cannot be read.
    """
    if spec.startswith(PREFIX):
        parts, found = hub_files(spec)
        files = [(path, None) for path in found]
    else:
        parts, files = [], _files(spec)
    for path, category in files:
        try:
            with path.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(path, error) from error
        parts += [_name(path.name), category or "", digest]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _files(spec: str) -> list[tuple[Path, str | None]]:
    root = builtin_path("texts", spec) if spec.startswith("builtin:") else Path(spec)
    if not root.exists():
        raise TextsError(
            f"no texts at '{spec}': give a directory of <category>/*.txt, a JSONL, CSV or Parquet "
            "file with a column 'text', builtin:categories, or hf:NAME for a dataset of the hub"
        )
    if root.is_file():
        if root.suffix not in _FILE_KINDS:
            raise TextsError(f"'{root}' is none of {', '.join(_FILE_KINDS)}; rename or convert it")
        return [(root, None)]
    if not root.is_dir():
        raise TextsError(f"'{root}' is neither a file nor a directory")
    found = [(path, _category(path, root)) for path in sorted(_listed(root))]
    if not found:
        raise TextsError(
            f"the directory '{spec}' holds no {', '.join(_FILE_KINDS)} file; a dataset that "
            f"`datasets` saved is read as hf:{spec}"
        )
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


def _read(file: Path, category: str | None) -> Iterator[Row]:
    try:
        if file.suffix == ".txt":
            yield partial(_read_txt, file, category)
        elif file.suffix == ".jsonl":
            yield from _read_jsonl(file, category)
        elif file.suffix == ".csv":
            yield from _read_csv(file, category)
        else:
            yield from _read_parquet(file, category)
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> TextsError:
    return TextsError(f"cannot read '{file}': {error.strerror or error}")


def _read_txt(file: Path, category: str | None) -> Text:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise _unreadable(file, error) from error
    return Text(_decode(data, str(file)), category, _name(file.name))


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig" if data.startswith(b"\xef\xbb\xbf") else "utf-8")
    except UnicodeDecodeError as error:
        raise TextsError(
            f"{where} is not UTF-8 (byte {data[error.start]:#04x} at offset {error.start}); "
            "convert it first, for example: iconv -f latin1 -t utf-8"
        ) from error


def _read_jsonl(file: Path, category: str | None) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield partial(_from_json, line, category, f"{file}, line {number},")


def _from_json(line: bytes, category: str | None, where: str) -> Text:
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
    return _from_row(row, category, where)


def _read_csv(file: Path, category: str | None) -> Iterator[Row]:
    csv.field_size_limit(sys.maxsize)
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            # strict: an open quote would take all the rest for one text
            for row in (reader := csv.DictReader(lines, strict=True)):
                yield partial(_from_row, row, category, f"{file}, line {reader.line_num},")
    except UnicodeDecodeError as error:
        raise TextsError(f"{file} is not UTF-8; convert it first") from error
    except csv.Error as error:
        raise TextsError(f"{file} is not CSV: {_CSV_FAULTS.get(str(error), error)}") from error


def _read_parquet(file: Path, category: str | None) -> Iterator[Row]:
    for number, (batch, index) in enumerate(_parquet_rows(file), start=1):
        yield partial(_from_batch, batch, index, category, file, number)


def _parquet_rows(file: Path) -> Iterator[tuple[Any, int]]:
    import pyarrow.parquet as pq

    with _parquet_said(file), file.open("rb") as opened:
        # opened: a path would give columns of the names of its folders
        parquet = pq.ParquetFile(opened)
        columns = parquet.schema_arrow.names
        names = [name for name in _COLUMNS if name in columns]
        if "text" not in names and _IDS not in names:
            raise TextsError(_no_text(f"'{file}'", columns))
        for batch in parquet.iter_batches(columns=names):
            yield from ((batch, index) for index in range(batch.num_rows))


@contextmanager
def _parquet_said(file: Path) -> Iterator[None]:
    try:
        yield
    except (MemoryError, TextsError):
        raise
    except Exception as error:  # bytes that are not UTF-8, dates and zones there are not, and more
        raise TextsError(f"cannot read '{file}' as Parquet: {error}") from error


def _from_batch(batch: Any, index: int, category: str | None, file: Path, number: int) -> Text:
    with _parquet_said(file):
        values = {name: batch.column(name)[index].as_py() for name in batch.schema.names}
    return _from_row(values, category, f"{file}, row {number},")


def _from_row(row: Mapping[str, object], category: str | None, where: str) -> Text:
    text, ids = row.get("text"), None
    if isinstance(text, bytes):
        raise TextsError(f"{where} has a 'text' of bytes; make the column one of strings")
    if text is None and row.get(_IDS) is not None:
        text, ids = "", _ids(row, where)
    if not isinstance(text, str):
        raise TextsError(_no_text(where, row))
    try:
        return Text(
            text=_valid(text),
            category=_optional(row.get("category")) or category,
            source=_optional(row.get("source")),
            ids=ids,
        )
    except RecursionError as error:
        raise TextsError(f"{where} has a category or source that is nested too deeply") from error


def _no_text(where: str, columns: Collection[object]) -> str:
    empty = next((name for name in ("text", _IDS) if name in columns), None)
    if empty is not None:
        return f"{where} has nothing in '{empty}'; leave the row out, or give an empty text"
    return (
        f"{where} has no 'text' (its columns: {', '.join(map(str, columns))}); rename the column "
        f"that holds the text to 'text', or that of tokens to '{_IDS}'"
    )


def _ids(row: Mapping[str, object], where: str) -> tuple[int, ...]:
    """Ids that are no padding."""
    ids, mask = row[_IDS], row.get("attention_mask")
    if not isinstance(ids, list) or not all(isinstance(i, int) and 0 <= i < 2**31 for i in ids):
        raise TextsError(f"{where} has '{_IDS}' that are not a list of vocabulary ids")
    if mask is None:
        return tuple(ids)
    if not isinstance(mask, list) or len(mask) != len(ids):
        raise TextsError(f"{where} has an 'attention_mask' that is not as long as its '{_IDS}'")
    return tuple(number for number, kept in zip(ids, mask, strict=True) if kept)


def _optional(value: object) -> str | None:
    return None if value is None or value == "" else _valid(str(value))


def _valid(text: str) -> str:
    """The text as UTF-8 can hold it."""
    return text.encode("utf-8", errors="replace").decode("utf-8")
