"""Jobs that go on when the program is closed: real processes, found, stopped, told as dead."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from energylens.tui.app import WorkerPlace
from energylens.tui.kept import Kept, folder_of, is_alive, listed, read, write
from energylens.tui.modals.leaving import Leaving
from tests.tui.conftest import Driver, Open

WORKER = """
import json, os, sys, threading, time
stopped = threading.Event()
def work(asked):
    def say(**what):
        print(json.dumps({"jsonrpc": "2.0", **what}), flush=True)
    def send(**what):
        say(id=asked["id"], **what)
    def fail(code, kind, message):
        send(error={"code": code, "message": message, "data": {"kind": kind}})
    if asked["method"] == "load":
        send(result={"seconds_per_pass": 1.0, "tokens_per_second": 1000.0, "n_ctx": 16})
        return
    place = asked["params"]["store"]
    for n in range(600):
        report = {"phase": "making", "done": n + 1, "total": 600, "unit": "rows"}
        say(method="progress", params={"id": asked["id"], "report": report})
        if stopped.wait(0.05):
            fail(-32800, "Cancelled", "stopped as asked")
            return
        if os.path.exists(place + "/finish"):
            break
        if os.path.exists(place + "/fail"):
            fail(-32000, "StoreError", "the disk is full")
            return
    send(result={"message": "600 rows are in the store"})
for line in sys.stdin:
    asked = json.loads(line)
    if asked["method"] == "cancel":
        stopped.set()
    else:
        threading.Thread(target=work, args=(asked,), daemon=True).start()
"""
PLACE = WorkerPlace((sys.executable, "-c", WORKER))


@pytest.fixture
def path(rich_path: Path, tmp_path: Path) -> Iterator[Path]:
    """A store of its own, whose jobs are all ended afterwards."""
    copy = tmp_path / "rich.lens"
    shutil.copytree(rich_path, copy)
    yield copy
    for kept in listed(folder_of(copy)):
        if kept.state == "running":
            os.kill(kept.process, signal.SIGKILL)
    within(lambda: not alive(copy))


def within(is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.05)


async def soon(d: Driver, is_so: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait until something is so, with the program at work meanwhile."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        await d.pilot.pause(0.05)


def alive(path: Path) -> list[Path]:
    """Files of jobs whose processes live."""
    return [file for file in folder_of(path).glob("*.json") if is_alive(file)]


def is_there(process: int) -> bool:
    """Whether a process lives."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def only(path: Path) -> Kept:
    (kept,) = listed(folder_of(path))
    return kept


async def begun(d: Driver, path: Path) -> None:
    """A job of `r` that is at work."""
    await d.press("2", "r")
    await d.until("Recompute for")
    await d.press("enter")
    await soon(d, lambda: [kept.phase for kept in listed(folder_of(path))] == ["making"])


async def state_of(d: Driver, state: str) -> None:
    for _ in range(200):
        if [job.state for job in d.app.workspace.jobs.listed if job.kept] == [state]:
            return
        await d.pilot.pause(0.1)
    raise AssertionError(d.app.workspace.jobs.listed)


async def test_a_job_is_kept_found_again_and_shown_when_done(drive: Open, path: Path) -> None:
    async with drive("large", path, worker=PLACE) as d:
        await begun(d, path)
        await d.press("9")
        await d.until("making")
        await d.press("ctrl+q")
        assert isinstance(d.app.screen, Leaving)
        assert "1 job still at work" in d.text
        await d.press("enter")
    assert only(path).state == "running" and len(alive(path)) == 1
    async with drive("large", path, worker=PLACE) as d:
        await d.press("9")
        await d.until("making")
        assert "running" in d.text
        (path / "finish").touch()
        await d.hears("600 rows are in the store")
        await d.until("done")
    within(lambda: not alive(path))


async def test_it_is_stopped_on_leaving_where_that_is_wanted(drive: Open, path: Path) -> None:
    async with drive("large", path, worker=PLACE) as d:
        await begun(d, path)
        await d.press("ctrl+q", "down", "enter")
        for _ in range(100):
            if not d.app.is_running:
                break
            await d.pilot.pause(0.1)
    assert only(path).state == "cancelled" and not alive(path)
    assert only(path).log[-1] == "stopped as asked"


async def test_the_next_start_can_stop_it(drive: Open, path: Path) -> None:
    async with drive("large", path, worker=PLACE) as d:
        await begun(d, path)
        await d.press("ctrl+q", "ctrl+q")  # the second one does not wait for an answer
    assert len(alive(path)) == 1
    async with drive("large", path, worker=PLACE) as d:
        await d.press("9", "x")
        await state_of(d, "cancelled")
        await d.until("stopped as asked")
        assert "to go" in d.text
        await d.press("ctrl+q")
        assert not isinstance(d.app.screen, Leaving), "nothing is at work any more"
    within(lambda: not alive(path))


async def test_what_goes_wrong_is_told(drive: Open, path: Path) -> None:
    async with drive("large", path, worker=PLACE) as d:
        await begun(d, path)
        (path / "fail").touch()
        await d.hears("the disk is full")
        await d.press("9")
        await d.until("failed")
        await d.until("the disk is full")


async def test_a_dead_one_is_told_as_dead(drive: Open, path: Path) -> None:
    async with drive("large", path, worker=PLACE) as d:
        await begun(d, path)
        os.kill(only(path).process, signal.SIGKILL)
        await d.hears("has ended without a word")
        await d.press("9")
        await d.until("dead")
    assert only(path).state == "dead" and not alive(path)


async def test_one_job_works_at_a_time(drive: Open, path: Path) -> None:
    async with drive("large", path, worker=PLACE) as d:
        await begun(d, path)
        await d.press("r")
        await d.until("Recompute for")
        await d.press("down", "enter")
        await soon(
            d, lambda: [k.phase for k in listed(folder_of(path))] == ["making", "waits for another"]
        )
        (path / "finish").touch()
        await soon(d, lambda: [k.state for k in listed(folder_of(path))] == ["done", "done"])


async def test_a_job_whose_file_was_taken_away_ends(drive: Open, path: Path) -> None:
    async with drive("large", path, worker=PLACE) as d:
        await begun(d, path)
        process = only(path).process
        shutil.rmtree(folder_of(path))
        await soon(d, lambda: not is_there(process))


def test_nothing_of_a_job_is_written_into_the_store(tmp_path: Path) -> None:
    assert not folder_of(tmp_path).is_relative_to(tmp_path / "store.lens")
    assert folder_of(tmp_path) == folder_of(tmp_path / "x" / "..")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"name": 3}', "\0"])
def test_files_that_say_nothing_are_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "job.json").write_text(content)
    assert read(tmp_path / "job.json") is None and listed(tmp_path) == []


def test_what_ended_long_ago_is_forgotten(tmp_path: Path) -> None:
    kept = Kept("a", "make", [], "s", "r", "index", {}, 0.0, "box", state="done", ended=time.time())
    write(tmp_path / "a.json", kept)
    assert [one.name for one in listed(tmp_path)] == ["a"]
    old = {**json.loads((tmp_path / "a.json").read_bytes()), "ended": 1.0}
    (tmp_path / "a.json").write_text(json.dumps(old))
    assert listed(tmp_path) == [] and not (tmp_path / "a.json").exists()
