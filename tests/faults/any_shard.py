"""Processes that take whichever shard is free, some of them killed while they hold one.

python -m tests.faults.any_shard FOLDER --processes 8 --killed 3 --texts 120
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from energylens.db.claim import holder_of
from energylens.db.layout import StoreLayout
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig
from energylens.ingest.progress import Progress
from energylens.ingest.whole import index_once, make_run
from tests.faults.commands import Stage, build_stage
from tests.faults.compare import check, contents
from tests.faults.drive import ended, started
from tests.faults.readers import build_loaded

_PAUSE = 0.5
"""Most seconds from one death to the next."""
_PATIENCE = 300.0
"""Seconds until a process that never takes a shard is a defect."""


def work(store: Path, config: IngestConfig, part: Part | None) -> None:
    """What the command `energylens ingest` does, from loading to the index."""
    progress = Progress()
    run_id = make_run(store, config, part, progress)
    index_once(store, run_id, progress)


def kill_one(children: list[int], shards: Path, by: random.Random) -> str:
    """Kill one of the processes that hold a shard; whose lock it held."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        locks = sorted(shards.glob(".*.lock"))
        for lock in by.sample(locks, len(locks)):
            holder = holder_of(lock)
            if holder is not None and holder.process in children:
                os.kill(holder.process, signal.SIGKILL)
                assert ended(holder.process) == -signal.SIGKILL
                children.remove(holder.process)
                return lock.name
    raise TimeoutError(f"no process took a shard in {_PATIENCE:.0f} seconds")


def drive(stage: Stage, processes: int, killed: int, texts: int, seed: int) -> dict[str, Any]:
    """What happened.

    Raises:
        AssertionError: a process failed, or the store is not that of one process alone.
    """
    by, config = random.Random(seed), build_loaded(stage, texts).config
    alone, store = stage.folder / "one" / "x.lens", stage.folder / "many" / "x.lens"
    for path in (alone, store):
        shutil.rmtree(path.parent, ignore_errors=True)
        path.parent.mkdir()
    assert ended(started(lambda: work(alone, config, Part()))) == 0
    children = [started(lambda: work(store, config, None)) for _ in range(processes)]
    shards, taken = StoreLayout(store).run("r").shards, []
    for _ in range(killed):
        taken.append(kill_one(children, shards, by))
        time.sleep(by.random() * _PAUSE)
    codes = [ended(child) for child in children]
    assert set(codes) == {0}, "see what they wrote above"
    wanted, found = contents(alone, True), contents(store, True)
    check(store, found, wanted)
    return {
        "processes": processes,
        "killed holding": taken,
        "ended": len(codes),
        "shards": len(StoreLayout(store).run("r").complete_shards()),
        "rows": {name: len(rows) for name, rows in found.items()},
    }


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--processes", type=int, default=8)
    asked.add_argument("--killed", type=int, default=3)
    asked.add_argument("--texts", type=int, default=120, help="each is about a shard")
    asked.add_argument("--seed", type=int, default=0)
    given = asked.parse_args()
    stage = build_stage(given.folder, started, ended)
    found = drive(stage, given.processes, given.killed, given.texts, given.seed)
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
