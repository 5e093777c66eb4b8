"""What other processes write into a store just now, read from the disk alone."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from energylens.db.claim import holder_of, is_elsewhere
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.manifest import read_manifest
from energylens.db.provenance import read_run
from energylens.errors import EnergyLensError


@dataclass(frozen=True)
class Writing:
    """An ingest that is not finished, or an index that is being made."""

    what: str
    """ingest or index."""
    run_id: str
    is_running: bool
    """A living process of this machine holds a lock of it, or one of another machine."""
    done: int
    total: int
    """Shards; 0 of 0 for an index, which tells nothing of how far it is."""
    tokens: int
    """In complete shards."""
    seconds: float | None
    """From the run's beginning to its last complete shard; None before there is one."""


def writings(path: Path) -> list[Writing]:
    """Runs that are not complete, and indexes being made; runs that cannot be read are left out."""
    found: list[Writing] = []
    for run in StoreLayout(path).runs():
        try:
            found += _of_run(run)
        except (EnergyLensError, OSError):
            continue  # `energylens verify` tells what is wrong with it
    return found


@cache
def _tokens_in(shard: Path, changed: int) -> int:
    """Tokens of a complete shard, which is asked for every two seconds and never changes; `changed`
    tells one that was made anew from it."""
    return sum(entry.rows for entry in read_manifest(shard).files if entry.table == "tokens")


def _of_run(run: RunLayout) -> list[Writing]:
    info = read_run(run.run_json)
    shards = run.complete_shards()
    found = []
    if len(shards) < info.n_shards:
        tokens = sum(_tokens_in(s, (s / "manifest.json").stat().st_mtime_ns) for s in shards)
        last = max(((s / "manifest.json").stat().st_mtime for s in shards), default=None)
        began = run.run_json.stat().st_mtime
        held = any(is_held(lock) for lock in run.shards.glob(".*.lock"))
        seconds = None if last is None else max(last - began, 0.0)
        found.append(
            Writing("ingest", info.run_id, held, len(shards), info.n_shards, tokens, seconds)
        )
    if is_held(run.root / ".index.lock"):
        found.append(Writing("index", info.run_id, True, 0, 0, info.n_tokens, None))
    return found


def is_held(lock: Path) -> bool:
    """Whether the process that wrote a lock file lives; taking the lock to find out would stand in
    a writer's way."""
    holder = holder_of(lock)
    if holder is None or is_elsewhere(holder):
        return holder is not None  # who ends in order removes the lock
    try:
        os.kill(holder.process, 0)
    except PermissionError:
        return True  # somebody else's
    except (OSError, OverflowError):
        return False
    return True
