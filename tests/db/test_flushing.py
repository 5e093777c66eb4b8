"""What a loss of power would leave: nothing gets its name before its bytes are on the disk."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from energylens.db import index_files
from energylens.db.index_files import index_state, put_back, replace_index
from energylens.db.layout import RunLayout
from energylens.db.manifest import Manifest, write_manifest
from energylens.db.schema import TABLES
from energylens.db.shards import write_shard
from energylens.db.sums import replace_listed, wrong_with
from energylens.db.version import create_store
from energylens.db.whole import exchange, write_whole


@dataclass
class Disk:
    """What was asked of the disk, in order, with paths relative to a folder."""

    root: Path
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def name(self, path: Any) -> str:
        return os.path.relpath(path, self.root)

    def place(self, *what: str) -> int:
        assert what in self.asked, (what, self.asked)
        return len(self.asked) - 1 - self.asked[::-1].index(what)


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    seen = Disk(tmp_path)
    open_as, flush = os.open, os.fsync
    paths: dict[int, Any] = {}

    def opened(path: Any, *arguments: Any, **named: Any) -> int:
        descriptor = open_as(path, *arguments, **named)
        paths[descriptor] = path
        return descriptor

    def flushed(descriptor: int) -> None:
        seen.asked.append(("flush", seen.name(paths.get(descriptor, "?"))))
        flush(descriptor)

    def moved(real: Any) -> Any:
        def move(source: Any, target: Any, **named: Any) -> None:
            seen.asked.append(("move", seen.name(source), seen.name(target)))
            real(source, target, **named)

        return move

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", flushed)
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, moved(getattr(os, name)))
    return seen


def one_row(table: str) -> pa.Table:
    schema = TABLES[table].arrow
    return pa.Table.from_pylist([dict.fromkeys(schema.names)], schema=schema)


def test_a_text_is_flushed_before_it_takes_its_name(disk: Disk, tmp_path: Path) -> None:
    write_whole(tmp_path / "x.json", "{}")
    assert disk.asked == [
        ("flush", ".x.json.partial"),
        ("move", ".x.json.partial", "x.json"),
        ("flush", "."),
    ]


def test_a_shard_appears_with_all_its_files_on_the_disk(disk: Disk, tmp_path: Path) -> None:
    run = RunLayout(tmp_path)
    with write_shard(run, 0, ("codes", "tokens")) as writer:
        writer.write("codes", one_row("codes"))
        writer.write("tokens", one_row("tokens"))
    partial, final = "shards/.000000.partial", "shards/000000"
    appears = disk.place("move", partial, final)
    listed = disk.place("move", f"{partial}/.manifest.json.partial", f"{partial}/manifest.json")
    for name in ("codes.parquet", "tokens.parquet", ".manifest.json.partial"):
        assert disk.place("flush", f"{partial}/{name}") < listed < appears
    assert listed < disk.place("flush", partial) < appears < disk.place("flush", "shards")


@pytest.mark.parametrize("can_swap", [True, False])
def test_an_index_gives_way_to_a_new_one_that_is_on_the_disk(
    disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_swap: bool
) -> None:
    """Where names cannot be swapped, the old one is set aside."""

    def swapped(one: Path, other: Path) -> bool:
        disk.asked.append(("swap", disk.name(one), disk.name(other)))
        return can_swap and exchange(one, other)

    monkeypatch.setattr(index_files, "exchange", swapped)
    create_store(tmp_path / "x.lens")
    run = RunLayout(tmp_path / "x.lens/runs/r")
    for _ in range(2):
        with replace_index(run) as writer, writer.table("features", "s") as out:
            out.write(one_row("features"))
    home = "x.lens/runs/r"
    appears = swap = disk.place("swap", f"{home}/.index.partial", f"{home}/index")
    if not can_swap:
        aside = disk.place("move", f"{home}/index", f"{home}/.index.old")
        appears = disk.place("move", f"{home}/.index.partial", f"{home}/index")
        assert swap < aside < appears
    assert disk.place("flush", f"{home}/.index.partial/features/s.parquet") < swap
    assert appears < disk.place("flush", home)
    assert not (run.root / ".index.old").exists() and index_state(run) == "fresh"


def test_after_a_kill_between_two_names_the_new_index_is_taken(tmp_path: Path) -> None:
    for name in ("old", "partial"):
        folder = tmp_path / f".index.{name}"
        folder.mkdir()
        write_manifest(folder, Manifest((), (name,)))
    put_back(tmp_path / "index")
    assert '"partial"' in (tmp_path / "index/manifest.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_an_index_of_other_columns_is_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_store(tmp_path / "x.lens")
    run = RunLayout(tmp_path / "x.lens/runs/r")
    with replace_index(run):
        pass
    assert index_state(run) == "fresh"
    monkeypatch.setattr(index_files, "_columns_fingerprint", lambda: "columns:of another version")
    assert index_state(run) == "stale"


@pytest.mark.parametrize("before", [True, False])
def test_a_listed_file_is_listed_whenever_the_power_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    path, partial = tmp_path / "notes.parquet", tmp_path / ".notes.parquet.partial"
    for content in ("old", "new"):
        partial.write_text(content)
        if content == "old":
            replace_listed(partial, path)
    replace = os.replace

    def stopped(source: Any, target: Any) -> None:
        if Path(target) == path:
            if not before:
                replace(source, target)
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        replace_listed(partial, path)
    assert path.read_text() == ("old" if before else "new")
    assert wrong_with(path) is None
