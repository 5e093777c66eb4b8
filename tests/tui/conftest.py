"""Run the app under Pilot and read its screen as a person would."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from textual import events
from textual.keys import Keys, _character_to_key
from textual.pilot import Pilot
from textual.worker import WorkerCancelled

from db.store import confine
from queries.catalog import open_catalog
from tui.app import LensApp
from tui.settings import Settings

KEYS = {key.value for key in Keys}
SIZES = {"small": (80, 24), "large": (160, 45)}


@dataclass
class Driver:
    """The app with what a person does: press keys, and look."""

    app: LensApp
    pilot: Pilot

    async def press(self, *keys: str) -> None:
        """Press keys one after the other, each when the last one's questions are answered."""
        for key in keys:
            await self.pilot.press(key)
            await self.settle()

    async def type(self, text: str) -> None:
        await self.press(*(_character_to_key(c) for c in text))

    async def type_ahead(self, *parts: str) -> None:
        """Send texts and named keys all at once, as one packet of a slow line brings them."""
        for part in parts:
            for key in [part] if len(part) > 1 and part in KEYS else part:
                name = key if key in KEYS else _character_to_key(key)
                self.app.post_message(events.Key(name, key if len(key) == 1 else None))
        await self.settle()

    async def settle(self) -> None:
        """Wait until no key is on its way, no question is open and everything is drawn."""
        while self.app._turns._on_its_way is not None and self.app.is_running:
            await asyncio.sleep(0)
        for _ in range(3):
            with suppress(WorkerCancelled):  # a question that was interrupted
                await self.app.workers.wait_for_complete()
            await self.pilot.pause()

    async def until(self, text: str) -> None:
        """Wait until a text is on the screen; toasts come on a timer."""
        for _ in range(200):
            if text in self.text:
                return
            await self.pilot.pause(0.05)
        raise AssertionError(f"'{text}' never came:\n{self.text}")

    async def hears(self, text: str) -> None:
        """Wait until a toast says a text, however it is broken into lines."""
        for _ in range(200):
            if any(text in toast.message for toast in self.app._notifications):
                return
            await self.pilot.pause(0.05)
        raise AssertionError(f"'{text}' was never said")

    @property
    def lines(self) -> list[str]:
        """The screen's text, line by line; what screenshots are made from."""
        strips = self.app.screen._compositor.render_strips()
        return ["".join(segment.text for segment in strip).rstrip() for strip in strips]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


Open = Callable[..., AbstractAsyncContextManager[Driver]]


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings, history and saved statements of a test are its own."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.fixture
def drive(store_path: Path) -> Open:
    """Opens the app on a store at a size."""

    @asynccontextmanager
    async def opened(
        size: str = "small", path: Path = store_path, settings: Settings | None = None
    ) -> AsyncIterator[Driver]:
        with open_catalog(path) as store:
            confine(store)
            app = LensApp(store, settings=settings)
            async with app.run_test(
                size=SIZES.get(size) or _size(size), notifications=True
            ) as pilot:
                driver = Driver(app, pilot)
                await driver.settle()
                yield driver

    return opened


def _size(text: str) -> tuple[int, int]:
    columns, _, lines = text.partition("x")
    return int(columns), int(lines)
