"""Ten thousand random keys, at random sizes, over stores of every kind, with a worker that refuses
and one that lies: no exception, no memory that grows."""

import gc
import os
import random
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from energylens.db.store import confine
from energylens.db.version import create_store
from energylens.queries.catalog import open_catalog
from energylens.tui.app import LensApp, WorkerPlace
from energylens.tui.keymap import bindings_by_id
from tests.conftest import OLD_STORE
from tests.tui.conftest import Driver

NO_WORKER = WorkerPlace(
    (
        sys.executable,
        "-c",
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    number = json.loads(line)['id']\n"
        "    error = {'code': -32000, 'message': 'no model in a soak'}\n"
        "    print(json.dumps({'jsonrpc': '2.0', 'id': number, 'error': error}), flush=True)\n",
    )
)
"""A worker that refuses everything: what is tested here is the screens."""
SLOW = pytest.mark.slow
SIZES = tuple((w, h) for w in (60, 80, 100, 120, 160, 250) for h in (15, 24, 36, 70))
LEAVING = {"ctrl+q", "f10"}
LETTERS = "abcxyz019 >:~\"[]{}'%_-"


@dataclass(frozen=True)
class Walk:
    """Keys pressed at random."""

    n_keys: int
    seed: int
    n_parts: int
    sizes: tuple[tuple[int, int], ...]
    worker: WorkerPlace


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


async def soak(path: Path, walk: Walk) -> list[float]:
    """Press keys at random, one by one and many at once, at sizes and over runs at random; the
    memory in use after each part of the way."""
    choices, by, measured = keys(), random.Random(walk.seed), []
    with open_catalog(path) as store:
        confine(store)
        runs = [info.run_id for info in store.infos]
        app = LensApp(store, walk.worker)
        async with app.run_test(size=walk.sizes[0]) as pilot:
            driver = Driver(app, pilot)
            for _ in range(walk.n_parts):
                for _ in range(walk.n_keys // (25 * walk.n_parts)):
                    if by.random() < 0.2:
                        await pilot.resize_terminal(*by.choice(walk.sizes))
                    if len(runs) > 1 and by.random() < 0.1:
                        to = by.choice(runs)
                        await driver.press(*["escape"] * 8, "1", "colon", *f"run {to}", "enter")
                    chosen = by.choices(choices, k=25)
                    at_once = by.random() < 0.5
                    await (driver.press_ahead if at_once else driver.press)(*chosen)
                await close_everything(driver)
                measured.append(resident())
            assert app.is_running and driver.lines[0].strip(), "the program is still there"
    return measured


@pytest.fixture
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a store of one of the kinds: keys may write notes."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    store = tmp_path / "soaked.lens"
    if request.param == "empty":
        create_store(store)
    else:
        found = OLD_STORE if request.param == "old" else request.getfixturevalue(request.param)
        shutil.copytree(found, store)
    return store


def bad_worker(folder: Path, seed: int) -> WorkerPlace:
    """It lies, stalls and dies."""
    starts = str(folder / "starts")
    return WorkerPlace((sys.executable, "-m", "tests.tui.bad_worker", str(seed), starts))


@pytest.fixture
def findable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker finds its module from wherever it is started."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.mark.parametrize("path", ["rich_path", pytest.param("many", marks=SLOW)], indirect=True)
async def test_random_keys_break_nothing(path: Path, tmp_path: Path, findable: None) -> None:
    await soak(path, Walk(300, 0, 2, SIZES, bad_worker(tmp_path, 0)))


@SLOW
@pytest.mark.parametrize("path", ["rich_path", "many", "empty", "old"], indirect=True)
@pytest.mark.parametrize("is_bad", [False, True], ids=["refuses", "lies"])
async def test_ten_thousand_keys_and_memory_stays_flat(
    path: Path, tmp_path: Path, findable: None, is_bad: bool
) -> None:
    worker = bad_worker(tmp_path, 2) if is_bad else NO_WORKER
    measured = await soak(path, Walk(10_000, 2, 10, SIZES, worker))
    print("resident MB at tenths of the way:", [round(m) for m in measured])  # noqa: T201
    assert measured[-1] - measured[6] < 25, f"caches are full by then: {measured}"
