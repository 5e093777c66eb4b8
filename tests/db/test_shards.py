"""Shards exist whole or not at all, and one writer at a time makes each."""

import errno
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energylens.db import shards
from energylens.db.derived import FEATURE_CODES
from energylens.db.layout import RunLayout, file_name
from energylens.db.manifest import read_manifest
from energylens.db.schema import CODES, TABLES
from energylens.db.shards import write_shard
from energylens.db.table import GRADIENTS_OF_CODES
from energylens.errors import StoreBusyError, StoreDamagedError, StoreError


def some_codes(first: int = 0, n: int = 5) -> pa.Table:
    return pa.table(
        {
            "run_id": ["r"] * n,
            "sae_id": ["s"] * n,
            "token_index": list(range(first, first + n)),
            "feature_id": [3] * n,
            "activation": [1.0] * n,
            **{c.name: pa.nulls(n, c.type) for c in GRADIENTS_OF_CODES},
        }
    )


def test_a_finished_shard_has_a_manifest_that_tells_its_files(tmp_path: Path) -> None:
    run = RunLayout(tmp_path)
    with write_shard(run, 7, ("codes",)) as writer:
        writer.write("codes", some_codes())
        writer.write("codes", some_codes(5))
        assert run.complete_shards() == []
    assert run.complete_shards() == [tmp_path / "shards/000007"]
    manifest = read_manifest(run.shard(7))
    assert manifest.rows("codes") == 10
    assert [entry.path for entry in manifest.files] == ["codes.parquet"]
    assert sorted(p.name for p in (tmp_path / "shards").iterdir()) == ["000007"]


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_an_error_leaves_no_trace(tmp_path: Path, error: BaseException) -> None:
    run = RunLayout(tmp_path)
    with pytest.raises(type(error)), write_shard(run, 0, ("codes",)) as writer:
        writer.write("codes", some_codes())
        raise error
    assert run.complete_shards() == []
    assert not (run.shards / ".000000.partial").exists()
    with write_shard(run, 0, ("codes",)) as writer:
        writer.write("codes", some_codes())
    assert len(run.complete_shards()) == 1


def test_a_full_disk_is_said_and_finished_shards_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunLayout(tmp_path)
    with write_shard(run, 0, ("codes",)) as writer:
        writer.write("codes", some_codes())

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shards, "sync", full)
    with (
        pytest.raises(StoreError, match=r"No space left on device; finished shards are safe"),
        write_shard(run, 1, ("codes",)) as writer,
    ):
        writer.write("codes", some_codes())
    assert run.complete_shards() == [run.shard(0)]


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "shards").write_text("a file in the way")
    with (
        pytest.raises(StoreError, match=r"cannot write to .*shards"),
        write_shard(RunLayout(tmp_path), 0, ("codes",)),
    ):
        pass


def _hold(folder: str, began: Any) -> None:
    with write_shard(RunLayout(Path(folder)), 0, ("codes",)) as writer:
        writer.write("codes", some_codes())
        began.set()
        time.sleep(60)


def test_a_second_writer_is_turned_away_until_the_first_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    began = context.Event()
    process = context.Process(target=_hold, args=(str(tmp_path), began))
    process.start()
    try:
        assert began.wait(60)
        with (
            pytest.raises(StoreBusyError, match=f"being written by process {process.pid}"),
            write_shard(RunLayout(tmp_path), 0, ("codes",)),
        ):
            pass
    finally:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    assert RunLayout(tmp_path).complete_shards() == []
    with write_shard(RunLayout(tmp_path), 0, ("codes",)) as writer:
        writer.write("codes", some_codes())
    assert len(RunLayout(tmp_path).complete_shards()) == 1


def test_a_shard_that_is_complete_is_not_made_again(tmp_path: Path) -> None:
    run = RunLayout(tmp_path)
    with write_shard(run, 0, ("codes",)) as writer:
        writer.write("codes", some_codes())
    with (
        pytest.raises(StoreBusyError, match="finished by another process"),
        write_shard(run, 0, ("codes",)),
    ):
        pass


def test_a_manifest_that_is_no_manifest_is_said(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"files": 3}')
    with pytest.raises(StoreDamagedError, match="cannot be read"):
        read_manifest(tmp_path)


def test_rows_are_cast_to_the_schema_or_refused(tmp_path: Path) -> None:
    with (
        pytest.raises((pa.ArrowInvalid, ValueError)),
        write_shard(RunLayout(tmp_path), 0, ("codes",)) as writer,
    ):
        writer.write("codes", some_codes().set_column(3, "feature_id", pa.array(["x"] * 5)))


@pytest.mark.parametrize("table", [CODES, FEATURE_CODES])
def test_codes_have_the_encodings_that_keep_them_small(tmp_path: Path, table: Any) -> None:
    from energylens.db.parquet import TableWriter

    with TableWriter(tmp_path / "x.parquet", table) as writer:
        writer.write(some_codes(0, 1000))
    group = pq.ParquetFile(tmp_path / "x.parquet").metadata.row_group(0)
    used = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert "DELTA_BINARY_PACKED" in used["token_index"].encodings
    assert "BYTE_STREAM_SPLIT" in used["activation"].encodings
    assert "RLE_DICTIONARY" in used["sae_id"].encodings
    assert {column.compression for column in used.values()} == {"ZSTD"}
    assert pq.ParquetFile(tmp_path / "x.parquet").schema_arrow.names == table.arrow.names


def test_every_table_and_column_is_documented() -> None:
    for table in TABLES.values():
        assert len(table.doc) > 20, table.name
        assert set(table.key) <= {column.name for column in table.columns}
        for column in table.columns:
            assert len(column.doc) > 5, (table.name, column.name)


def test_ids_become_distinct_file_names() -> None:
    names = [file_name(n) for n in ("a/b", "a_b", "a%2Fb", "ä", "a b", "a:b")]
    assert len(set(names)) == len(names)
    assert all("/" not in name for name in names)
