"""Tables as text and as files: CSV, JSON, Markdown, Parquet."""

import enum
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path

import polars as pl

from energylens.db.claim import PATIENCE, claim
from energylens.db.whole import partial_of
from energylens.errors import StoreError
from energylens.queries.display import visible
from energylens.queries.values import distinct


class Format(enum.StrEnum):
    """How a table is written."""

    table = "table"
    csv = "csv"
    json = "json"
    parquet = "parquet"
    markdown = "markdown"


_MARKUP = re.compile(r"[\\`*\[<>|~&]|(?<![^\W_])_|_(?![^\W_])")
"""Signs that Markdown may take for its own; inside words an underscore is none (GFM 6.4)."""
LONGEST = 60
"""Letters of a text in a drawn table."""
SUFFIXES = {
    Format.csv: "csv",
    Format.parquet: "parquet",
    Format.json: "jsonl",
    Format.markdown: "md",
}
"""Of files, by format."""


def as_text(rows: pl.DataFrame, how: Format, most_letters: int = LONGEST) -> str:
    """A table as text in any format but Parquet; `json` is one object a line. In a drawn table
    longer texts are cut after `most_letters`, with an ellipsis."""
    if how is Format.csv:
        return _flat(rows).write_csv()
    if how is Format.json:
        return _escaped(text_for_bytes(rows).write_ndjson())
    return f"{_drawn(rows, how is Format.markdown, most_letters)}\n"


def write_file(rows: pl.DataFrame, path: Path, how: Format) -> None:
    """Write a table to a file.

    Raises:
        StoreError: the file cannot be written.
    """
    with whole_file(path) as partial:
        if how is Format.parquet:
            rows.write_parquet(partial)
        else:
            partial.write_text(as_text(rows, how), encoding="utf-8")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write to, which takes its place when the block ends well. A link stays a link, to
    the new file; a device or a pipe is written to as it is.

    Raises:
        StoreBusyError: another process keeps writing it.
        StoreError: it cannot be written; what was there before is untouched.
    """
    if path.is_dir():
        raise StoreError(f"'{path}' is a folder; name a file in it")
    place = path.resolve()
    if _is_stream(path):
        with _said(path):
            yield place
        return
    with _said(path):
        os.scandir(place.parent).close()  # a claim would make it
    lock = place.with_name(f".{place.name}.lock")
    with claim(lock, f"'{path}'", "another program writes it", PATIENCE):
        partial = partial_of(place)
        try:
            with _said(path):
                yield partial
                partial.replace(place)
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


@contextmanager
def _said(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        said = getattr(error, "strerror", None) or error
        raise StoreError(f"cannot write '{path}': {said}; make room, or go elsewhere") from error


def _is_stream(path: Path) -> bool:
    """Whether something is there that is no file: a device, a pipe, a socket."""
    return path.exists() and not path.is_file()


def text_for_bytes(rows: pl.DataFrame) -> pl.DataFrame:
    """Columns of bytes as text, with what is no UTF-8 written \\xNN."""
    binary = [name for name, kind in rows.schema.items() if kind == pl.Binary]
    return rows.with_columns(
        pl.col(name).map_elements(
            lambda data: data.decode("utf-8", "backslashreplace"), return_dtype=pl.String
        )
        for name in binary
    )


def _escaped(lines: str) -> str:
    """JSON with every invisible character as \\uNNNN, which reads back as the same."""
    return "".join(
        json.dumps(c)[1:-1] if not c.isprintable() and c not in "\n " else c for c in lines
    )


def _drawn(rows: pl.DataFrame, markdown: bool, most_letters: int) -> str:
    said = unmarked if markdown else visible

    def cell(text: str) -> str:
        whole = said(text)
        is_cut = not markdown and len(whole) > most_letters
        return f"{whole[:most_letters]}…" if is_cut else whole

    shown = _flat(rows).with_columns(pl.col(pl.String).map_elements(cell, return_dtype=pl.String))
    shown.columns = distinct([said(name) for name in shown.columns])
    with pl.Config(
        tbl_rows=-1,
        tbl_cols=-1,
        tbl_width_chars=60_000,
        fmt_str_lengths=10_000,  # of names and numbers too, which are never cut
        fmt_table_cell_list_len=-1 if markdown else 6,
        tbl_hide_column_data_types=True,
        tbl_hide_dataframe_shape=True,
        tbl_formatting="ASCII_MARKDOWN" if markdown else "UTF8_FULL_CONDENSED",
        float_precision=None,
    ):
        return str(shown)


def unmarked(text: str) -> str:
    """Text that Markdown shows as it is: nothing in it opens a cell, a link, a tag or emphasis."""
    return _MARKUP.sub(r"\\\g<0>", visible(text))


def _flat(rows: pl.DataFrame) -> pl.DataFrame:
    """What is nested as JSON text, which every format can hold."""
    nested = [name for name, kind in rows.schema.items() if kind.is_nested()]
    return text_for_bytes(
        rows.with_columns(
            pl.Series(name, [_json(value) for value in rows[name].to_list()], pl.String)
            for name in nested
        )
    )


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, default=_written)


def _written(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)
