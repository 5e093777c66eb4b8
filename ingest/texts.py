"""Read texts with their categories, one at a time, from any of the accepted places."""

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from energylens.builtin import builtin_path
from energylens.errors import TextsError

_FILE_KINDS = (".txt", ".jsonl", ".csv", ".parquet")


@dataclass(frozen=True)
class Text:
    """One text as its source gave it."""

    text: str
    """The text itself; may be empty. A lone surrogate, which JSON may hold and UTF-8 cannot, has
    become a question mark."""
    category: str | None
    """What kind of text it is; None where the source does not say."""
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
    found: list[tuple[Path, str | None]] = []
    for path in sorted(p for p in root.rglob("*") if p.suffix in _FILE_KINDS and p.is_file()):
        inside = path.relative_to(root).parts
        if path.suffix == ".txt":
            found.append((path, inside[0] if len(inside) > 1 else None))
        else:
            found.append((path, path.stem))
    if not found:
        raise TextsError(f"the directory '{spec}' holds no {', '.join(_FILE_KINDS)} file")
    return found


def _read(file: Path, category: str | None) -> Iterator[Text]:
    try:
        if file.suffix == ".txt":
            yield Text(_decode(file.read_bytes(), str(file)), category, file.name)
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
            if not isinstance(row, dict):
                raise TextsError(f"{where} is not a JSON object with a 'text'")
            yield _from_row(row, category, where)


def _read_csv(file: Path, category: str | None) -> Iterator[Text]:
    csv.field_size_limit(sys.maxsize)
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            for row in (reader := csv.DictReader(lines)):
                yield _from_row(row, category, f"{file}, line {reader.line_num},")
    except UnicodeDecodeError as error:
        raise TextsError(f"{file} is not UTF-8; convert it first") from error
    except csv.Error as error:
        raise TextsError(f"{file} is not CSV: {error}") from error


def _read_parquet(file: Path, category: str | None) -> Iterator[Text]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        names = [n for n in ("text", "category", "source") if n in parquet.schema_arrow.names]
        number = 0
        for batch in parquet.iter_batches(columns=names):
            for row in batch.to_pylist():
                number += 1
                yield _from_row(row, category, f"{file}, row {number},")
    except pa.ArrowException as error:
        raise TextsError(f"cannot read '{file}' as Parquet: {error}") from error


def _from_row(row: Mapping[str, object], category: str | None, where: str) -> Text:
    text = row.get("text")
    if not isinstance(text, str):
        raise TextsError(f"{where} has no 'text' (its columns: {', '.join(map(str, row))})")
    return Text(
        text=text.encode("utf-8", errors="replace").decode("utf-8"),
        category=_optional(row.get("category")) or category,
        source=_optional(row.get("source")),
    )


def _optional(value: object) -> str | None:
    return None if value is None or value == "" else str(value)
