"""A store of 200 million codes: made, indexed and browsed within 4 GiB.

    python -m benchmarks.scale [--millions 200] [--flips 10000] [--folder FOLDER]

Each step is a process of its own, and its peak is what the kernel says it held at most. No model
runs: codes and gradients are drawn, and the decoder is random. Writes
`benchmarks/results/scale.json`.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.make_shards import make_shards
from benchmarks.make_store import RUN, SAE
from benchmarks.screens import SIZE, cpu_ms_of, floor
from energylens.db.index_files import IndexWriter
from energylens.db.provenance import SaeInfo
from energylens.db.store import confine
from energylens.ingest.index import build
from energylens.ingest.index.from_weights import FromWeights
from energylens.ingest.progress import Progress
from energylens.queries.catalog import call, open_catalog
from energylens.tui.app import LensApp

GIB = 2**30


@dataclass(frozen=True)
class Shape:
    """How large a store is."""

    millions: float
    l0: int
    d_sae: int
    d_model: int
    flips: int

    @property
    def n_tokens(self) -> int:
        return int(self.millions * 1e6 / self.l0)


class Planted(FromWeights):
    """Weights that nobody has to load: random directions."""

    def can_add(self) -> bool:
        return False

    def write(self, writer: IndexWriter, sae: SaeInfo) -> Any:
        directions = np.random.default_rng(1).standard_normal((sae.d_sae, self._run.d_model))
        return _Decoder([1.0] * sae.d_sae, directions)

    def directions(self, sae: SaeInfo) -> None:
        return None


@dataclass(frozen=True)
class _Decoder:
    norms: list[float]
    directions: np.ndarray


def make(path: Path, shape: Shape) -> None:
    shards = max(1, round(shape.millions / 20))
    make_shards(path, shape.n_tokens, shape.d_sae, shape.l0, shape.d_model, shards)


def index(path: Path, shape: Shape) -> None:
    build.FromWeights = Planted
    build.build_indexes(path, Progress(), n_flips=shape.flips)


def query(path: Path, shape: Shape) -> None:
    """A sum over all codes, and the named queries that lists are made of."""
    with open_catalog(path) as store:
        con = store.cursor()
        con.execute(
            "SELECT feature_id, count(*), max(activation) FROM codes GROUP BY ALL"
        ).fetchall()
        feature = shape.d_sae // 3
        for name in ("best_features", "most_frequent_features", "strongest_features"):
            call(store, name, run=RUN, sae=SAE)
        for name in ("feature_contexts", "coactivation_partners", "feature_histogram"):
            call(store, name, run=RUN, sae=SAE, feature=feature)


def browse(path: Path, shape: Shape) -> None:
    """Every view of the TUI, and a feature with its texts."""
    asyncio.run(_browse(path))


async def _browse(path: Path) -> None:
    keys = {}
    with open_catalog(path) as store:
        confine(store)
        app = LensApp(store)
        async with app.run_test(size=SIZE) as pilot:
            for key in ("2", "enter", "3", "4", "5", "6", "7", "8", "1"):
                await pilot.press(key)
                await app.workers.wait_for_complete()
                await pilot.pause()
                name = type(app.screen).__name__
                keys[name] = [await cpu_ms_of(pilot, "down"), await cpu_ms_of(pilot, "up")]
    keys["an empty app"] = [await floor()]
    _keys_of(path).write_text(json.dumps(keys))


def _keys_of(path: Path) -> Path:
    """Where browsing tells CPU milliseconds of a key in each view, the median of 30."""
    return path.with_suffix(".keys.json")


STEPS: dict[str, Callable[[Path, Shape], None]] = {
    "make": make, "index": index, "query": query, "browse": browse,
}  # fmt: skip


def measured(step: str, path: Path, arguments: list[str]) -> dict[str, float]:
    """Run a step in a process of its own; its peak and what it took.

    Raises:
        RuntimeError: it failed.
    """
    began = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "benchmarks.scale",
        *arguments,
        "--step",
        step,
        "--folder",
        str(path),
    ]
    child = os.spawnv(os.P_NOWAIT, sys.executable, command)
    _, status, used = os.wait4(child, 0)
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{step} failed")
    return {
        "peak_gib": used.ru_maxrss * 1024 / GIB,
        "cpu_s": used.ru_utime + used.ru_stime,
        "seconds": time.perf_counter() - began,
    }


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--millions", type=float, default=200)
    asked.add_argument("--l0", type=int, default=60)
    asked.add_argument("--d-sae", type=int, default=24_576)
    asked.add_argument("--d-model", type=int, default=768)
    asked.add_argument("--flips", type=int, default=10_000)
    asked.add_argument("--folder", type=Path)
    asked.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    given = asked.parse_args()
    shape = Shape(given.millions, given.l0, given.d_sae, given.d_model, given.flips)
    if given.step:
        STEPS[given.step](given.folder, shape)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        path = Path(folder, "scale.lens")
        steps = {step: measured(step, path, sys.argv[1:]) for step in STEPS}
        with open_catalog(path) as store:
            (counted,) = store.cursor().execute("SELECT count(*) FROM codes").fetchall()
        size = sum(file.stat().st_size for file in path.rglob("*.parquet"))
        keys = json.loads(_keys_of(path).read_text())
    found = {"codes": counted[0], **vars(shape), "tokens": shape.n_tokens, "bytes": size} | steps
    found["key_cpu_ms"] = keys
    out = Path(__file__).parent / "results/scale.json"
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
