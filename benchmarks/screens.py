"""The feature table over 131,072 features under Pilot: first frame, a key press, a page.

CPU seconds, Pilot's own share included and shown beside. Writes `benchmarks/results/screens.json`.
"""

import asyncio
import json
import statistics
import tempfile
import time
from pathlib import Path

from textual.app import App
from textual.pilot import Pilot

from benchmarks.make_store import make_store
from energylens.db.store import confine
from energylens.queries.catalog import open_catalog
from energylens.tui.app import LensApp
from energylens.tui.widgets.virtual_table import VirtualTable

D_SAE, SIZE = 131_072, (120, 40)


async def cpu_ms_of(pilot: Pilot, key: str, rounds: int = 30) -> float:
    """CPU milliseconds of one press of a key, drawn; the median."""
    times = []
    for _ in range(rounds):
        began = time.process_time()
        await pilot.press(key)
        times.append((time.process_time() - began) * 1000)
    return statistics.median(times)


async def floor() -> float:
    """A key press in an app with nothing in it."""
    async with App().run_test(size=SIZE) as pilot:
        return await cpu_ms_of(pilot, "down")


def has_rows(app: LensApp) -> bool:
    """Whether the table shows its first row."""
    source = app.screen.query_one("#list", VirtualTable).source
    return source is not None and source.n_rows > 0 and source.row(0) is not None


async def measure(path: Path) -> dict[str, float]:
    began = time.perf_counter()
    with open_catalog(path) as store:
        confine(store)
        app = LensApp(store)
        async with app.run_test(size=SIZE) as pilot:
            first_frame = time.perf_counter() - began
            began = time.perf_counter()
            await pilot.press("2")
            while not has_rows(app):
                await pilot.pause(0.005)
            features = time.perf_counter() - began
            await app.workers.wait_for_complete()
            return {
                "first_frame_s": first_frame,
                "feature_table_s": features,
                "key_ms": await cpu_ms_of(pilot, "down"),
                "page_ms": await cpu_ms_of(pilot, "pagedown"),
            }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "wide.lens"
        make_store(path, 1_000_000, D_SAE, 60.0, with_codes=False)
        found = {"features": D_SAE, **asyncio.run(measure(path)), "floor_ms": asyncio.run(floor())}
    out = Path(__file__).parent / "results/screens.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
