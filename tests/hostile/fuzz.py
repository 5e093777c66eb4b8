"""The long form of the fuzzing: cases that reach new code are kept and changed further.

    python -m tests.hostile.fuzz FOLDER [--target NAME ...] [--cases N] [--seconds S]

Needs atheris (Linux). FOLDER keeps the cases and the counts, so that the same command goes on
where the last one stopped: a target that has had N cases is passed over. Each target is fed by a
process of its own, in pieces, for a defect ends the process; the bytes that make it are kept.
"""

import argparse
import importlib
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PIECE = 240_000
"""Cases of the cheapest targets between two looks at the clock."""
_INSTRUMENTED = (
    "energylens.db",
    "energylens.queries",
    "energylens.wire",
    "energylens.ingest.texts",
)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("folder", type=Path)
    asked.add_argument("--target", action="append", help="all if left out")
    asked.add_argument("--cases", type=int, default=1_000_000, help="of each target")
    asked.add_argument("--seconds", type=float, help="stop after so long")
    asked.add_argument("--piece", type=int, help=argparse.SUPPRESS)
    given = asked.parse_args()
    if given.piece is not None:
        feed(given.folder, given.target[0], given.piece)
        return
    until = time.monotonic() + given.seconds if given.seconds else float("inf")
    counts = run(given.folder, given.target, given.cases, until)
    sys.stdout.write(table(counts))
    if any(one["defects"] for one in counts.values()):
        raise SystemExit(1)


def run(
    folder: Path, names: list[str] | None, cases: int, until: float
) -> dict[str, dict[str, int]]:
    """Feed each target in turn a piece, until all have had enough or time is up."""
    store = store_in(folder)
    kept = folder / "counts.json"
    counts = json.loads(kept.read_text()) if kept.exists() else {}
    costs = costs_of(store, folder)
    for name in names or costs:
        counts.setdefault(name, {"cases": 0, "kept": 0, "defects": 0})
    waiting = [name for name in names or costs if counts[name]["cases"] < cases]
    while waiting and time.monotonic() < until:
        for name in list(waiting):
            if time.monotonic() >= until:
                break
            piece = min(max(PIECE // costs[name], 100), cases - counts[name]["cases"])
            done = subprocess.run(
                [sys.executable, "-m", "tests.hostile.fuzz", str(folder), "--target", name,
                 "--piece", str(piece)],
                capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"},
            )  # fmt: skip
            told = told_of(folder, name)
            counts[name]["cases"] += int(told.read_text()) if told.exists() else 0
            counts[name]["kept"] = len(list(corpus_of(folder, name).iterdir()))
            if done.returncode:
                counts[name]["defects"] += 1
                sys.stderr.write(f"{name}:\n{done.stderr[-3000:]}\n")
                waiting.remove(name)  # it would end at the same case again
            elif counts[name]["cases"] >= cases:
                waiting.remove(name)
            kept.write_text(json.dumps(counts, indent=1))
    return counts


def table(counts: dict[str, dict[str, int]]) -> str:
    """The counts for docs/reliability.md."""
    lines = ["| what was fed | cases | that reached new code | defects |", "|---|---|---|---|"]
    lines += [
        f"| {n} | {c['cases']:,} | {c['kept']:,} | {c['defects']} |" for n, c in counts.items()
    ]
    return "\n".join(lines) + "\n"


def corpus_of(folder: Path, name: str) -> Path:
    path = folder / "cases" / name.replace("/", " ")
    path.mkdir(parents=True, exist_ok=True)
    return path


def told_of(folder: Path, name: str) -> Path:
    """Where a process tells how many cases it has had."""
    return folder / "fed" / f"{name.replace('/', ' ')}.told"


def store_in(folder: Path) -> Path:
    """A small store with a run and an index."""
    from tests.faults.commands import build_stage, index_of
    from tests.faults.drive import ended, started

    folder.mkdir(parents=True, exist_ok=True)
    stage = build_stage(folder / "made", started, ended)
    store = stage.folder / "whole.lens"
    assert ended(started(lambda: index_of(store))) == 0
    return store


def costs_of(store: Path, folder: Path) -> dict[str, int]:
    from tests.hostile.targets import targets

    return {name: target.cost for name, target in targets(store, folder / "fed").items()}


def feed(folder: Path, name: str, n: int) -> None:
    """Feed one target n cases in this process."""
    atheris: Any = importlib.import_module("atheris")  # no dependency, and without types

    with atheris.instrument_imports(include=list(_INSTRUMENTED)):
        from tests.hostile.mutate import mutated
        from tests.hostile.targets import targets
        from tests.hostile.watch import watched

    fed = folder / "fed"
    target = targets(folder / "made" / "whole.lens", fed)[name]
    corpus, told = corpus_of(folder, name), told_of(folder, name)
    told.unlink(missing_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    seen = 0

    def one(content: bytes) -> None:
        nonlocal seen
        seen += 1
        if seen % 100 == 0 or seen >= n:
            told.write_text(str(seen))
        target.feed(content)

    def change(content: bytes, most: int, seed: int) -> bytes:
        if seed % 2:
            return atheris.Mutate(content, most)
        return mutated((content, *target.seeds), random.Random(seed))[:most]

    arguments = [sys.argv[0], f"-runs={n}", f"-seed={time.time_ns() % 2**31}", "-max_len=65536"]
    arguments += ["-timeout=60", "-rss_limit_mb=8192", f"-artifact_prefix={folder}/defect-"]
    atheris.Setup([*arguments, str(corpus)], one, custom_mutator=change)
    with watched(fed):
        atheris.Fuzz()


if __name__ == "__main__":
    main()
