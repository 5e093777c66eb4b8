"""Break one long command at one place after another, and see that the same command mends it.

    python -m tests.faults.drive FOLDER COMMAND [--few N] [--by-chance N] [--seconds S] [--seed S]

After each fault of `faults.py` the command runs once more, whole; then every table must be that of
a store nothing happened to, `verify` must find nothing, and no file may be left over. Each try is a
fork of a process that has loaded everything and started no thread. FOLDER keeps the counts: with
--seconds, the same command goes on where the last one ran out of time.
"""

import argparse
import contextlib
import faulthandler
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from energylens.cli import signals
from energylens.cli.failures import said_of
from energylens.errors import StoreBusyError
from tests.faults.commands import COMMANDS, Command, Stage, build_stage
from tests.faults.compare import check, contents, read_through
from tests.faults.faults import (
    BUSY,
    ENDED,
    REFUSED,
    STOPPED,
    WRONG,
    Fault,
    count_calls,
    faults_of,
)

_PAGE = 4096
_ALL = 1 << 30
"""Bytes of a disk on which there is room."""


def started(work: Callable[[], Any], arm: Callable[[], None] = lambda: None) -> int:
    """Run in a fork that hears signals by now; its process id."""
    ready, tell = os.pipe()
    child = os.fork()
    if child:
        os.close(tell)
        os.read(ready, 1)
        os.close(ready)
        return child
    faulthandler.dump_traceback_later(300, exit=True)
    code = WRONG
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signals.listen()
        os.close(tell)
        os.close(ready)
        arm()
        work()
        code = 0
    except StoreBusyError:
        code = BUSY
    except BaseException as error:
        code = _code_of(error)
    finally:
        os._exit(code)


def _code_of(error: BaseException) -> int:
    """As the command judges it: told to stop, an error with a sentence, or a defect."""
    if signals.exit_code() is not None or isinstance(error, KeyboardInterrupt):
        return STOPPED
    _, said = said_of(error)
    if not said.startswith("unexpected"):
        sys.stderr.write(f"{said}\n")
        return REFUSED
    sys.excepthook(type(error), error, error.__traceback__)
    return WRONG


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Drive:
    """One command and its faults."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self.name = stage, name
        self.command: Command = COMMANDS[name]
        self.expected = stage.folder / f"{name}.expected.json"
        self.can_mount = os.geteuid() == 0 and _can_mount(stage.disk)
        self.seconds = 0.0
        self.n_places = self.n_pages = 0
        self._measure()

    def _measure(self) -> None:
        """How long it takes, at how many places it can be broken, and what it leaves."""
        places = self.stage.folder / "places"
        with self._fresh():
            room = _used(self.stage.disk)
            began = time.monotonic()
            child = started(self._run, count_calls(places))
            assert ended(child) == 0, f"{self.name} does not even run"
            self.seconds = time.monotonic() - began
            self.n_places = int(places.read_text())
            if self.can_mount:
                self.n_pages = max(0, _used(self.stage.disk) - room) // _PAGE + 1
            whole = started(lambda: self.expected.write_text(json.dumps(self._contents())))
            assert ended(whole) == 0

    def faults(self, by_chance: int, seed: int) -> list[Fault]:
        """All there are, in an order that is always the same."""
        by = random.Random(f"{seed} {self.name}")
        found = list(faults_of(self.n_places, self.n_pages, by_chance, by))
        by.shuffle(found)
        return found

    def try_one(self, fault: Fault) -> None:
        """Raises AssertionError where it was not mended."""
        done = self.stage.folder / "done"
        done.unlink(missing_ok=True)
        with self._fresh():
            if fault.pages is not None:
                left = max(1, _used(self.stage.disk) // _PAGE + fault.pages) * _PAGE  # 0: no limit
                _remount(self.stage.disk, f"size={left}")
            if fault.is_read_only:
                _remount(self.stage.disk, "ro")
            writers = [started(self._run, fault.arm) for _ in range(fault.writers)]
            readers = [started(lambda: self._read(done)) for _ in range(fault.readers)]
            if fault.number:
                time.sleep(fault.moment * self.seconds)
                os.kill(writers[0], fault.number)
            found = {ended(child) for child in writers}
            done.touch()
            read = {ended(child) for child in readers}
            assert found <= fault.allowed, f"{self.name}, {fault}: ended with {found}"
            assert read <= ENDED, f"{self.name}, {fault}: a reader ended with {read}"
            if self.can_mount:
                _remount(self.stage.disk, f"rw,size={_ALL}")
            again = ended(started(self._again))
            assert again == 0, f"{self.name}, {fault}: not mended ({again})"

    def _run(self) -> None:
        self.command.run(self.stage)

    def _again(self) -> None:
        self._run()
        check(self.stage.store, self._contents(), json.loads(self.expected.read_text()))

    def _contents(self) -> dict[str, Any]:
        return contents(self.stage.store, self.command.is_store)

    def _read(self, done: Path) -> None:
        if self.command.is_store:
            read_through(self.stage.store, done, self.command.begins_from is None)

    @contextlib.contextmanager
    def _fresh(self) -> Iterator[None]:
        """What the command begins from, on a disk of its own where one can be had."""
        disk = self.stage.disk
        if self.can_mount:
            _mount(disk)
        try:
            shutil.rmtree(self.stage.store, ignore_errors=True)
            if self.command.begins_from:
                shutil.copytree(
                    self.stage.folder / f"{self.command.begins_from}.lens", self.stage.store
                )
            yield
        finally:
            if self.can_mount:
                subprocess.run(["umount", str(disk)], check=True)


def _mount(disk: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ALL}", "none", str(disk)], check=True)


def _can_mount(disk: Path) -> bool:
    try:
        _mount(disk)
        subprocess.run(["umount", str(disk)], check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


def _used(disk: Path) -> int:
    found = os.statvfs(disk)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def drive(
    stage: Stage,
    names: list[str],
    few: int | None = None,
    by_chance: int = 8,
    seed: int = 0,
    until: float = math.inf,
) -> dict[str, Counter[str]]:
    """Try all faults of each command, or a `few`, the commands by turns.

    Raises:
        AssertionError: one was not mended.
    """
    kept = stage.folder / "counts.json"
    before = json.loads(kept.read_text()) if kept.exists() else {}
    counts = {name: Counter(before.get(name, {})) for name in names}
    drives = {name: Drive(stage, name) for name in names}
    waiting = {name: drives[name].faults(by_chance, seed) for name in names}
    if few is not None:
        waiting = some_kinds(waiting, few)
    waiting = {name: faults[counts[name].total() :] for name, faults in waiting.items()}
    while any(waiting.values()) and time.monotonic() < until:
        for name in names:
            if waiting[name] and time.monotonic() < until:
                fault = waiting[name].pop(0)
                drives[name].try_one(fault)
                counts[name][fault.kind] += 1
                kept.write_text(json.dumps(counts, indent=1))
    return counts


def some_kinds(waiting: dict[str, list[Fault]], few: int) -> dict[str, list[Fault]]:
    """A few faults of each command, of other kinds from one command to the next."""
    kinds = sorted({fault.kind for faults in waiting.values() for fault in faults})
    chosen: dict[str, list[Fault]] = {}
    for number, (name, faults) in enumerate(waiting.items()):
        wanted = [kinds[(few * number + i) % len(kinds)] for i in range(few)]
        found = [next((f for f in faults if f.kind == kind), None) for kind in wanted]
        chosen[name] = [fault for fault in found if fault is not None]
    return chosen


def table(counts: dict[str, Counter[str]]) -> str:
    """The counts for docs/reliability.md."""
    kinds = sorted({kind for counter in counts.values() for kind in counter})
    lines = [f"| | {' | '.join(counts)} |", f"|---|{'---|' * len(counts)}"]
    lines += [f"| {k} | {' | '.join(str(c[k]) for c in counts.values())} |" for k in kinds]
    return "\n".join(lines) + "\n"


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("folder", type=Path)
    asked.add_argument("command", choices=[*COMMANDS, "all"])
    asked.add_argument("--few", type=int, help="faults of each command; all if left out")
    asked.add_argument("--by-chance", type=int, default=8, help="of each kind without places")
    asked.add_argument("--seconds", type=float, default=math.inf, help="stop after so long")
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    until = time.monotonic() + given.seconds
    stage = build_stage(given.folder, started, ended)
    names = list(COMMANDS) if given.command == "all" else [given.command]
    counts = drive(stage, names, given.few, given.by_chance, given.seed, until)
    sys.stdout.write(f"{json.dumps(counts)}\n{table(counts)}")


if __name__ == "__main__":
    main()
