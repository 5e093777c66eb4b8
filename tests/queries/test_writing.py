"""Files of rows appear whole or not at all, and what the disk refuses is said."""

import errno
import io
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from energylens.cli.output import print_frame
from energylens.errors import StoreError
from energylens.queries.writing import SUFFIXES, Format, write_file

ROWS = pl.DataFrame({"n": range(1000)})


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("how", list(SUFFIXES))
def test_a_full_disk_leaves_the_file_of_before_and_nothing_else(
    tmp_path: Path, how: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows"
    path.write_text("before")

    def half(self: Any, *_: object, **__: object) -> None:
        (tmp_path / ".rows.partial").write_bytes(b"half")
        if how is Format.parquet:
            raise pl.exceptions.ComputeError("parquet: underlying IO error: No space left")
        full()

    whole = pl.DataFrame if how is Format.parquet else Path
    monkeypatch.setattr(whole, "write_parquet" if whole is pl.DataFrame else "write_text", half)
    with pytest.raises(StoreError, match=r"cannot write '.*rows': .*No space left.*; make room"):
        write_file(ROWS, path, how)
    assert [one.name for one in tmp_path.iterdir()] == ["rows"]
    assert path.read_bytes() == b"before"


def test_parquet_that_cannot_be_sent_is_the_systems_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full(io.BytesIO):
        write = full  # pyright: ignore[reportAssignmentType]

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Full()))
    with pytest.raises(OSError, match="No space left"):
        print_frame(ROWS, Format.parquet)
