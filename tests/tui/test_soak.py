"""Ten thousand random keys: no exception, no memory that grows."""

import gc
import os
import random
import sys
from pathlib import Path

import pytest

from energylens.db.store import confine
from energylens.queries.catalog import open_catalog
from energylens.tui.app import LensApp, WorkerPlace
from energylens.tui.keymap import bindings_by_id
from tests.tui.conftest import SIZES, Driver

NO_WORKER = WorkerPlace(
    (
        sys.executable,
        "-c",
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    number = json.loads(line)['id']\n"
        "    error = {'kind': 'UsageError', 'message': 'no model in a soak'}\n"
        "    print(json.dumps({'id': number, 'error': error}), flush=True)\n",
    )
)
"""A worker that refuses everything: what is tested here is the screens."""
LEAVING = {"ctrl+q", "f10"}
LETTERS = "abcxyz019 >:~\"[]{}'%_-"


def keys() -> list[str]:
    """Every key of the program but those that leave it, and letters for what is typed."""
    bound = {key for b in bindings_by_id().values() for key in b.key.split(",")}
    common = ["down", "up", "enter", "escape", "tab", "left", "right"] * 6
    return [*sorted(bound - LEAVING), *LETTERS, *common, "ctrl+p", "backspace"]


def resident() -> float:
    """Memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def close_everything(driver: Driver) -> None:
    """Back to the root of every view: what is open differs by more than what could leak."""
    for view in "123456789":
        await driver.press(*["escape"] * 8, view)
    gc.collect()


async def soak(path: Path, size: str, n_keys: int, seed: int, n_parts: int) -> list[float]:
    """Press keys at random, one by one and many at once; the memory in use after each
    part of the way."""
    choices, generator, measured = keys(), random.Random(seed), []
    with open_catalog(path) as store:
        confine(store)
        app = LensApp(store, NO_WORKER)
        async with app.run_test(size=SIZES[size]) as pilot:
            driver = Driver(app, pilot)
            for _ in range(n_parts):
                for _ in range(n_keys // (25 * n_parts)):
                    chosen = generator.choices(choices, k=25)
                    at_once = generator.random() < 0.5
                    await (driver.press_ahead if at_once else driver.press)(*chosen)
                await close_everything(driver)
                measured.append(resident())
            assert app.is_running and driver.lines[0].strip(), "the program is still there"
    return measured


@pytest.mark.parametrize(
    ("size", "seed"), [("small", 0), pytest.param("large", 1, marks=pytest.mark.slow)]
)
async def test_random_keys_break_nothing(
    rich_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str, seed: int
) -> None:
    monkeypatch.chdir(tmp_path)
    await soak(rich_path, size, 250, seed, n_parts=2)


@pytest.mark.slow
async def test_ten_thousand_keys_and_memory_stays_flat(
    rich_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    measured = await soak(rich_path, "small", 10_000, seed=2, n_parts=10)
    print("resident MB at tenths of the way:", [round(m) for m in measured])  # noqa: T201
    assert measured[-1] - measured[6] < 25, f"caches are full by then: {measured}"
