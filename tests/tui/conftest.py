"""Run the app under Pilot and read its screen as a person would."""

import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.css.model import RuleSet
from textual.css.stylesheet import Stylesheet
from textual.keys import _character_to_key, key_to_character
from textual.pilot import Pilot
from textual.worker import WorkerCancelled

from energylens.db.explanations import Explanation, write_explanations
from energylens.db.layout import StoreLayout
from energylens.db.store import confine
from energylens.ingest.index.build import build_indexes
from energylens.ingest.plan import IngestConfig
from energylens.ingest.progress import Progress
from energylens.queries.catalog import open_catalog
from energylens.tui.address import Told
from energylens.tui.app import LensApp, WorkerPlace
from energylens.tui.kept import is_alive, read
from energylens.tui.settings import Settings
from energylens.tui.start import look_up
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.conftest import make_gpt2, make_mixtral, make_sae, make_store

SIZES = {"small": (80, 24), "large": (160, 45)}


@dataclass
class Driver:
    """The app with what a person does: press keys, and look."""

    app: LensApp
    pilot: Pilot

    async def press(self, *keys: str) -> None:
        """Press keys one after the other, each when the last one's questions are answered."""
        for key in keys:
            self._send(key)
            await self.settle()

    def _send(self, key: str) -> None:
        name = _character_to_key(key) if len(key) == 1 else key
        character = key if len(key) == 1 else key_to_character(key)
        self.app.post_message(events.Key(name, character))

    async def type(self, text: str) -> None:
        await self.press(*text)

    async def press_ahead(self, *keys: str) -> None:
        """Press keys all at once, as one packet of a slow line brings them."""
        for key in keys:
            self._send(key)
        await self.settle()

    async def settle(self) -> None:
        """Wait until no key is on its way, no question is open and everything is drawn."""
        quiet = 0
        while quiet < 4 and self.app.is_running:
            quiet = 0 if self._is_busy else quiet + 1
            with suppress(WorkerCancelled):  # a question that was interrupted
                await self.app.workers.wait_for_complete()
            await self.pilot._wait_for_screen()
            self.app.screen._on_timer_update()  # draws, and may move what stands on the screen

    @property
    def _is_busy(self) -> bool:
        app, screen = self.app, self.app.screen
        return (
            app._turns._on_its_way is not None
            or any(not worker.is_finished for worker in app.workers)
            or any(pump.message_queue_size for pump in (app, *screen.walk_children()))
            or screen._layout_required
            or bool(screen._dirty_widgets)
        )

    async def until(self, text: str) -> None:
        """Wait until a text is on the screen; toasts come on a timer."""
        for _ in range(200):
            if text in self.text:
                return
            await self.pilot.pause(0.05)
        raise AssertionError(f"'{text}' never came:\n{self.text}")

    async def on_column(self, table_id: str, name: str) -> None:
        """Go to a column of a table by its name."""
        table = self.app.screen.query_one(f"#{table_id}", VirtualTable)
        names = [column.name for column in table.columns]
        by = names.index(name) - table.cursor_column
        await self.press(*["right" if by > 0 else "left"] * abs(by))

    async def reach(self, text: str, by: str) -> None:
        """Press a key until a text is on the screen."""
        for _ in range(200):
            await self.press(by)
            if text in self.text:
                return
        raise AssertionError(f"'{by}' never led to '{text}':\n{self.text}")

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
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings, history and saved statements of a test are its own, and so are the jobs that would
    go on after it."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    yield
    for file in tmp_path.glob("xdg_state_home/energylens/jobs/*/*.json"):
        kept = read(file)
        while kept is not None and is_alive(file):
            if kept.process:  # it has begun to tell of itself
                with suppress(ProcessLookupError):
                    os.kill(kept.process, signal.SIGKILL)
            time.sleep(0.02)
            kept = read(file)


@pytest.fixture(autouse=True, scope="session")
def parsed_once() -> Iterator[None]:
    """A style sheet is parsed once for all apps of the same colours, not once an app."""
    parse_rules, parsed = Stylesheet._parse_rules, {}

    def kept(self: Stylesheet, *args: Any, **named: Any) -> list[RuleSet]:
        key = (args, *sorted(named.items()), *sorted(self._variables.items()))
        if key not in parsed:
            parsed[key] = parse_rules(self, *args, **named)
        return parsed[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stylesheet, "_parse_rules", kept)
        yield


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory, save_model: Callable[..., Path]) -> Path:
    """A store of runs that each lack something: an SAE, the index, energies, lens energies,
    categories, routers; one has all, with explanations, and one more of vectors and gradients."""
    root = tmp_path_factory.mktemp("many")
    make_sae("standard", "blocks.1.hook_resid_post", d_sae=48).save_model(root / "saes" / "one")
    for name in ("kinds", "plain"):
        with (root / f"{name}.jsonl").open("w") as lines:
            for number in range(20):
                text = {"text": " ".join(["the cat sat on a mat"] * (1 + number % 3)) + str(number)}
                category = {"category": "ab"[number % 2]} if name == "kinds" else {}
                lines.write(json.dumps(text | category) + "\n")
    mixture, sae = str(save_model(make_mixtral())), (str(root / "saes"),)
    kinds, path = str(root / "kinds.jsonl"), root / "many.lens"
    for config in (
        IngestConfig(mixture, kinds, sae, run_id="full"),
        IngestConfig(mixture, kinds, run_id="nosae"),
        IngestConfig(mixture, kinds, sae, run_id="noindex"),
        IngestConfig(mixture, kinds, sae, energies="none", run_id="silent"),
        IngestConfig(mixture, kinds, energies="output", run_id="output"),
        IngestConfig(mixture, str(root / "plain.jsonl"), sae, run_id="plain"),
        IngestConfig(str(save_model(make_gpt2())), kinds, sae, run_id="dense"),
        IngestConfig(
            mixture, kinds, sae, keep=("activations", "gradients"), efas=("own",), run_id="kept"
        ),
    ):
        make_store(path, config, with_index=False)
        if config.run_id != "noindex":
            build_indexes(path, Progress(), config.run_id, n_flips=0)
    said = [Explanation("full", "one", 3, "even numbers")]
    write_explanations(StoreLayout(path).run("full"), "one", said)
    return path


@pytest.fixture
def drive(store_path: Path) -> Open:
    """Opens the app on a store at a size."""

    @asynccontextmanager
    async def opened(
        size: str = "small",
        path: Path = store_path,
        settings: Settings | None = None,
        told: Told | None = None,
        worker: WorkerPlace | None = None,
    ) -> AsyncIterator[Driver]:
        with open_catalog(path) as store:
            confine(store)
            start = None if told is None else look_up(told, store)
            app = LensApp(store, worker, settings, start)
            app.animation_level = "none"  # what is read is where things come to rest
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
