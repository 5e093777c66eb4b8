"""Readers of a store that is being written: the short form, and the moment an index is replaced."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from energylens.db import index_files, views
from energylens.db.index_files import extend_index
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.manifest import Manifest, read_manifest
from energylens.db.store import open_store
from energylens.db.whole import exchange
from energylens.errors import StoreDamagedError
from energylens.ingest.plan import IngestConfig
from tests.conftest import make_store

ROOT = Path(__file__).resolve().parents[2]


def test_readers_beside_a_writer_see_whole_stores(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.faults.readers", str(tmp_path)),
            *("--readers", "3", "--texts", "5"),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["readers"] == 3 and found["answers"] >= 6
    counts = found["counts"]
    assert counts["codes"] == counts["feature_codes"] > 0


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, config: IngestConfig) -> Path:
    path = tmp_path_factory.mktemp("replaced") / "x.lens"
    make_store(path, config)
    return path


def layout_of(path: Path) -> RunLayout:
    return StoreLayout(path).runs()[0]


def n_codes(path: Path) -> int:
    with open_store(path) as store:
        return store.cursor().execute("SELECT count(*) FROM feature_codes").fetchall()[0][0]


def test_there_is_an_index_at_every_moment_of_its_replacement(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path.parent / "a").mkdir()
    (path.parent / "b").mkdir()
    if not exchange(path.parent / "a", path.parent / "b"):
        pytest.skip("this file system cannot exchange two names")
    before, seen = n_codes(path), []

    def looking(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            found = real(*arguments, **options)
            seen.append(n_codes(path))
            return found

        return call

    monkeypatch.setattr(Path, "rename", looking(Path.rename))
    monkeypatch.setattr(index_files, "exchange", looking(index_files.exchange))
    with extend_index(layout_of(path), ()):
        pass
    assert seen and set(seen) == {before}
    assert [p.name for p in layout_of(path).root.glob(".*partial")] == []


def test_an_index_that_is_replaced_while_it_is_listed_is_not_told_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = n_codes(path)
    index, asked = layout_of(path).index, []

    def older(directory: Path) -> Manifest:
        manifest = read_manifest(directory)
        asked.append(directory)
        if directory == index and asked.count(index) <= most:
            one, *rest = manifest.files
            return replace(manifest, files=(replace(one, n_bytes=one.n_bytes + 1), *rest))
        return manifest

    monkeypatch.setattr(views, "read_manifest", older)
    most = 2  # whether its columns are old is asked first
    assert n_codes(path) == before and asked.count(index) > 2
    asked.clear()
    most = 1_000
    with pytest.raises(StoreDamagedError, match="was changed or damaged"):
        n_codes(path)
