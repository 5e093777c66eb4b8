"""Break one long command at one place after another, and see that the same command mends it.

    python -m tests.faults.drive FOLDER COMMAND [--most N] [--seed S]

A fault is a death without farewell, an interrupt or a full disk at one call that changes the disk,
a limit on how large a file may grow, or a second process that does the same. After each the command
runs once more, whole; then every table must be that of a store nothing happened to, `verify` must
find nothing, and no file may be left over. Each try is a fork of a process that has loaded
everything and started no thread.
"""

import argparse
import faulthandler
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from energylens.db.derived import INDEX_TABLES
from energylens.db.schema import TABLES
from energylens.db.verify import verify_store
from energylens.errors import EnergyLensError, StoreBusyError
from energylens.queries.catalog import open_catalog
from tests.faults.commands import COMMANDS, Stage, build_stage

CALLS = ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir", "link")
LIMITS = (0, 1, 40, 300, 1_000, 3_000, 6_000, 10_000, 20_000, 60_000, 300_000)
"""Bytes a file may grow to."""
DEAD, REFUSED, BUSY, STOPPED, WRONG = 9, 10, 11, 12, 13
CHANGES = {"runs": "created", "notes": "changed"}
"""Columns that tell the time."""

Fault = Callable[[], None]


def on_call(place: int, happens: Callable[[], Any]) -> Fault:
    """At a place, counted from 1: each call has one before it and one after it."""

    def arm() -> None:
        seen = -1

        def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal seen
                seen += 2
                if seen - 1 == place:
                    happens()
                result = real(*arguments, **options)
                if seen == place:
                    happens()
                return result

            return call

        for name in CALLS:
            setattr(os, name, wrapped(getattr(os, name)))

    return arm


def count_calls(report: Path) -> Fault:
    """No fault: write down how many places there are."""

    def arm() -> None:
        places = 0

        def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal places
                places += 2
                report.write_text(str(places))
                return real(*arguments, **options)

            return call

        for name in CALLS:
            setattr(os, name, wrapped(getattr(os, name)))

    return arm


def die() -> None:
    os._exit(DEAD)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def fill() -> None:
    raise OSError(28, "No space left on device")


def limited(n_bytes: int) -> Fault:
    """The kernel refuses to let any file grow beyond this."""

    def arm() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))

    return arm


def started(work: Callable[[], Any], fault: Fault | None = None) -> int:
    """Run in a fork; its process id."""
    child = os.fork()
    if child:
        return child
    faulthandler.dump_traceback_later(60, exit=True)
    code = WRONG
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if fault is not None:
            fault()
        work()
        code = 0
    except StoreBusyError:
        code = BUSY
    except EnergyLensError:
        code = REFUSED
    except KeyboardInterrupt:
        code = STOPPED
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)


def ended(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def contents(store: Path) -> dict[str, list[Any]]:
    """Every row of every table in the order of its key, and the name of every file."""
    rows: dict[str, list[Any]] = {}
    with open_catalog(store) as opened:
        for name, table in TABLES.items():
            left_out = f" EXCLUDE ({CHANGES[name]})" if name in CHANGES else ""
            order = ", ".join(table.key)
            found = opened.cursor().execute(f"SELECT * {left_out} FROM {name} ORDER BY {order}")
            rows[name] = json.loads(json.dumps(found.fetchall(), default=repr))
    rows["files"] = sorted(str(path.relative_to(store)) for path in store.rglob("*"))
    return rows


def check(store: Path, expected: Path) -> None:
    problems = verify_store(store)
    assert not problems, problems
    wanted, found = json.loads(expected.read_text()), contents(store)
    derived = {table.name for table in INDEX_TABLES}
    for name, rows in wanted.items():
        assert len(rows) == len(found[name]), (
            f"{name}: {set(map(str, found[name])) ^ set(map(str, rows))}"
        )
        for one, two in zip(rows, found[name], strict=True):
            assert alike(one, two, exactly=name not in derived), f"{name}: {one} was {two}"


def alike(one: Any, two: Any, exactly: bool) -> bool:
    """DuckDB's threads add up the numbers of the index in any order."""
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return all(alike(x, y, exactly) for x, y in zip(one, two, strict=True))
    if isinstance(one, float) and isinstance(two, float) and not exactly:
        return math.isclose(one, two, rel_tol=1e-6, abs_tol=1e-9) or repr(one) == repr(two)
    return repr(one) == repr(two)


def drive(stage: Stage, command: str, most: int | None, seed: int) -> Counter[str]:
    """Try `most` faults of each kind, or all; how many of each kind there were.

    Raises:
        AssertionError: one was not mended.
    """
    before, run = COMMANDS[command]
    expected, places = stage.folder / "expected.json", stage.folder / "places"

    def fresh() -> Stage:
        shutil.rmtree(stage.store, ignore_errors=True)
        if begins_from := before(stage):
            shutil.copytree(begins_from, stage.store)
        return stage

    fresh()
    assert ended(started(lambda: run(stage), count_calls(places))) == 0
    whole = started(lambda: expected.write_text(json.dumps(contents(stage.store))))
    assert ended(whole) == 0
    faults: list[tuple[str, Fault | None, set[int]]] = [
        (name, on_call(place, happens), codes)
        for place in range(1, int(places.read_text()) + 1)
        for name, happens, codes in (
            ("killed", die, {0, DEAD}),
            ("stopped", stop, {0, STOPPED}),
            ("disk full", fill, {0, REFUSED}),
        )
    ]
    faults += [("file limit", limited(n), {0, REFUSED}) for n in LIMITS]
    faults += [("two writers", None, {0, BUSY, REFUSED})] * 8
    chosen = faults if most is None else some_of_each(faults, most, random.Random(seed))
    counts: Counter[str] = Counter()
    for name, fault, codes in chosen:
        fresh()
        first = started(lambda: run(stage), fault)
        second = started(lambda: run(stage)) if fault is None else None
        found = {ended(child) for child in (first, second) if child is not None}
        assert found <= codes, f"{name} {faults.index((name, fault, codes))}: ended with {found}"
        again = ended(started(lambda: (run(stage), check(stage.store, expected))))
        assert again == 0, f"{name} {faults.index((name, fault, codes))}: not mended ({again})"
        counts[name] += 1
    return counts


def some_of_each(
    faults: list[tuple[str, Fault | None, set[int]]], most: int, by: random.Random
) -> list[tuple[str, Fault | None, set[int]]]:
    """So many faults of every kind, taken by chance."""
    kinds: dict[str, list[tuple[str, Fault | None, set[int]]]] = {}
    for fault in faults:
        kinds.setdefault(fault[0], []).append(fault)
    return [fault for kind in kinds.values() for fault in by.sample(kind, min(most, len(kind)))]


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("folder", type=Path)
    asked.add_argument("command", choices=[*COMMANDS, "all"])
    asked.add_argument("--most", type=int, help="faults of each kind; all if left out")
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    stage = build_stage(given.folder, started, ended)
    for command in COMMANDS if given.command == "all" else (given.command,):
        counts = drive(stage, command, given.most, given.seed)
        sys.stdout.write(json.dumps({"command": command, **counts}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
