"""What other processes write is told from the disk alone."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from energylens.db.claim import claim
from energylens.db.layout import StoreLayout
from energylens.db.progress import is_held, writings
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest


def test_a_store_at_rest_is_written_by_nobody(store_path: Path) -> None:
    assert writings(store_path) == []


def test_an_unfinished_ingest_is_told_with_how_far_it_is(
    tmp_path: Path, config: IngestConfig
) -> None:
    path = tmp_path / "half.lens"
    prepared = prepare(path, load(config))
    ingest(prepared, Part(), Progress())
    run = StoreLayout(path).runs()[0]
    n = prepared.run.n_shards
    shutil.rmtree(run.shard(n - 1))
    (found,) = writings(path)
    assert (found.what, found.done, found.total) == ("ingest", n - 1, n)
    assert not found.is_running
    with claim(run.shards / f".{n - 1:06d}.lock", "a shard", "wait"):
        (found,) = writings(path)
        assert found.is_running
    with claim(run.root / ".index.lock", "the index", "wait"):
        assert [w.what for w in writings(path)] == ["ingest", "index"]


def test_a_lock_of_a_dead_process_is_not_held(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lock = tmp_path / "lock"
    lock.write_text(f"process {ended.pid}")
    assert not is_held(lock)
    lock.write_text(f"process {os.getpid()}")
    assert is_held(lock)
    lock.write_text("")
    assert not is_held(lock) and not is_held(tmp_path / "none")


def test_a_run_that_cannot_be_read_is_left_out(store_path: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(store_path, tmp_path / "copy.lens"))
    StoreLayout(copy).runs()[0].run_json.write_text("{")
    assert writings(copy) == []
