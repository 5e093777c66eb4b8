"""A claim is held by one process at a time, whatever its lock file goes through."""

import fcntl
import multiprocessing
import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from energylens.db.change import change_run, create_run
from energylens.db.claim import claim, holder_of, is_elsewhere
from energylens.db.layout import RunLayout
from energylens.db.leftovers import clean_run
from energylens.db.notes import Note, read_notes, write_note
from energylens.db.provenance import RunInfo, read_run
from energylens.db.version import create_store
from energylens.errors import StoreBusyError, StoreError

SPAWN = multiprocessing.get_context("spawn")
PROCESSES, ROUNDS = 4, 500


def in_parallel(work: Any, *arguments: Any) -> None:
    """Run `work(number, *arguments)` in several processes at once; all must end well."""
    started = [SPAWN.Process(target=work, args=(n, *arguments)) for n in range(PROCESSES)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0] * PROCESSES


def make_run(run_id: str = "r") -> RunInfo:
    return RunInfo(
        run_id, "corpus", "", "m", "", None, "", "", "", "", 0, 0, 0, 16, True, 3, 24, 300,
        "float32", "",
    )  # fmt: skip


def _claim_often(_: int, folder: Path) -> None:
    """Inside a claim a directory can be made: were another process inside too, it would exist."""
    for _ in range(ROUNDS):
        with claim(folder / "lock", "it", "wait", patience=60):
            (folder / "inside").mkdir()
            (folder / "inside").rmdir()
            count = folder / "count"
            count.write_text(str(int(count.read_text()) + 1))


def test_claims_of_several_processes_never_overlap(tmp_path: Path) -> None:
    (tmp_path / "count").write_text("0")
    in_parallel(_claim_often, tmp_path)
    assert int((tmp_path / "count").read_text()) == PROCESSES * ROUNDS
    assert not (tmp_path / "lock").exists()


def _note_often(number: int, folder: Path) -> None:
    for i in range(25):
        write_note(RunLayout(folder), Note("r", "s", number * 1000 + i, is_starred=True))


def test_no_note_is_lost_among_several_writers(tmp_path: Path) -> None:
    create_store(tmp_path / "x.lens")
    run = tmp_path / "x.lens/runs/r"
    in_parallel(_note_often, run)
    assert len(read_notes(RunLayout(run).notes)) == PROCESSES * 25
    assert sorted(path.name for path in run.iterdir()) == ["notes.parquet", "sums.json"]


def _add_often(number: int, folder: Path) -> None:
    from dataclasses import replace

    create_store(folder.parents[1])
    create_run(RunLayout(folder), make_run())
    for i in range(25):
        name = f"{number} {i}"
        change_run(
            RunLayout(folder), lambda run, n=name: replace(run, additions=[*run.additions, n])
        )


def test_no_change_of_a_run_is_lost_and_the_first_one_makes_it(tmp_path: Path) -> None:
    in_parallel(_add_often, tmp_path / "x.lens" / "runs" / "r")
    run = read_run(tmp_path / "x.lens" / "runs" / "r" / "run.json")
    assert sorted(run.additions) == sorted(
        f"{number} {i}" for number in range(PROCESSES) for i in range(25)
    )
    assert sorted(path.name for path in (tmp_path / "x.lens").iterdir()) == ["runs", "store.json"]


def test_a_claim_names_its_holder_and_waits_no_longer_than_asked(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with claim(lock, "the thing", "wait"):
        holder = holder_of(lock)
        assert holder is not None and holder.process == os.getpid() and not is_elsewhere(holder)
        me = f"the thing is being written by process {os.getpid()} on {socket.gethostname()}; wait"
        with pytest.raises(StoreBusyError, match=me), claim(lock, "the thing", "wait", 0.05):
            pass
    assert not lock.exists()


def test_others_who_come_one_after_another_are_waited_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, now, held = tmp_path / "lock", 0.0, []

    def take_over() -> None:
        """The next holder's file lies at the lock's place before the last one lets go."""
        descriptor = os.open(tmp_path / "next", os.O_RDWR | os.O_CREAT)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        (tmp_path / "next").rename(lock)
        held.append(descriptor)

    def sleep(_: float) -> None:
        nonlocal now
        now += 6.0
        if len(held) < most:
            take_over()
        elif is_ended:
            lock.unlink(missing_ok=True)
            for descriptor in held:
                os.close(descriptor)
            held.clear()

    clock = SimpleNamespace(monotonic=lambda: now, sleep=sleep)
    monkeypatch.setattr("energylens.db.claim.time", clock)
    take_over()
    most, is_ended = 5, True
    with claim(lock, "the thing", "wait", 10.0):
        assert now >= 30.0
    take_over()
    now, is_ended = 0.0, False
    with pytest.raises(StoreBusyError), claim(lock, "the thing", "wait", 10.0):
        pass
    assert 30.0 <= now < 45.0
    for descriptor in held:
        os.close(descriptor)


def test_a_claim_survives_the_removal_of_its_file(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with claim(lock, "a", "wait"):
        lock.unlink()
        with claim(lock, "b", "wait"):
            pass
        assert not lock.exists()


def test_a_claim_where_nothing_can_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write"), claim(tmp_path / "file/lock", "", ""):
        pass


def test_what_is_held_is_not_cleared_away(tmp_path: Path) -> None:
    create_store(tmp_path / "x.lens")
    run = RunLayout(tmp_path / "x.lens/runs/r")
    create_run(run, make_run())
    left = [
        run.shards / ".000000.partial",
        run.shards / ".000000.merge-7",
        run.shards / ".000001.partial",
    ]
    for path in left:
        path.mkdir(parents=True)
    (run.root / "notes.partial-17").write_text("")
    (run.shards / ".000002.lock").write_text("process 1 on another-machine")
    (run.shards / ".000002.partial").mkdir()
    with claim(run.shards / ".000001.lock", "", ""):
        clean_run(run)
    names = sorted(path.name for path in run.shards.iterdir())
    assert names == [".000001.partial", ".000002.lock", ".000002.partial"]
    assert sorted(path.name for path in run.root.iterdir()) == [
        "run.json",
        "shards",
        "sums.json",
    ]


def test_a_run_that_never_began_is_cleared_away(tmp_path: Path) -> None:
    run = RunLayout(tmp_path / "r")
    (run.shards / ".000000.partial").mkdir(parents=True)
    (run.root / ".run.json.partial").write_text("{")
    (run.root / "sums.json").write_text("{}")
    clean_run(run)
    assert not run.root.exists()
