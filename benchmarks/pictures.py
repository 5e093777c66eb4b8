"""Pictures of every view on the bundled store, at 160x45 and at 80x24: docs/screens/*.png.

    python -m benchmarks.pictures [STORE] [NAME ...]

Without STORE the demo's store is made first. Look at them: nothing cut, everything aligned.
"""

import asyncio
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from textual.pilot import Pilot

from energylens.cli.heads import heads
from energylens.cli.programs import demo
from energylens.db.store import confine
from energylens.queries.catalog import open_catalog
from energylens.report.screen import screen_as_png
from energylens.tui.app import LensApp

TARGET = Path("docs/screens")
SIZES = {"wide": (160, 45), "small": (80, 24)}
_NAMES = {" ": "space", ":": "colon", ">": "greater_than_sign", "(": "left_parenthesis",
          ")": "right_parenthesis", ",": "comma", "<": "less_than_sign"}  # fmt: skip
"""Keys by what they write, where a key is not named so."""


@dataclass(frozen=True)
class Picture:
    """One picture: the keys that lead to it, words in quotes typed letter by letter."""

    keys: tuple[str, ...]
    no_color: bool = False


_MATH = ("3", "down", "down", "right", "right", "right", "right", "enter")
PICTURES = {
    "overview": Picture(("down",)),
    "features": Picture(("2", "down", "down")),
    "filter": Picture(("2", "slash", "'max > 5 category:math'")),
    "feature": Picture((*_MATH, "enter")),
    "energies": Picture((*_MATH, "enter", "u", "u")),
    "rate": Picture((*_MATH, "enter", "b", "3", "4", "2")),
    "no-color": Picture((*_MATH, "enter"), no_color=True),
    "map": Picture((*_MATH, "enter", "d", "t")),
    "feature-texts": Picture((*_MATH, "enter", "t")),
    "specialists": Picture(_MATH[:-1]),
    "layers": Picture((*_MATH[:-1], "t")),
    "efas": Picture(("4", "down", "down")),
    "efas-filter": Picture(("4", "slash", "'category:math q < 0.01'", "enter")),
    "scatter": Picture(("4", "down", "x")),
    "coactivation": Picture(("5", "enter", "down")),
    "clusters": Picture(("5", "t")),
    "compare": Picture((*_MATH, "equals_sign", "down", "equals_sign")),
    "routing": Picture(("6", "down", "enter")),
    "circuits": Picture(("6", "t", "enter")),
    "heads": Picture(("0", "down", "right")),
    "head": Picture(("0", "tab", "enter", "tab", "down")),
    "attention": Picture(("0", "tab", "enter", "tab", "enter", "wait")),
    "energy": Picture(("7", "enter", "n")),
    "hardest": Picture(("7", "v")),
    "energy-layers": Picture(("7", "v", "v")),
    "masks": Picture(("7", "M", "down", "space")),
    "text": Picture(("7", "t", "right", "right", "right", "tab", "f", "down", "plus")),
    "sql": Picture(("8", "f5")),
    "compare-saes": Picture(("equals_sign", "down", "down", "equals_sign")),
    "palette": Picture(("2", "ctrl+p")),
    "jump": Picture(("colon", "'spec'")),
    "help": Picture(("2", "question_mark")),
    "lab": Picture((*_MATH, "enter", "a", "wait")),
    "jobs": Picture(("p", "wait", "'def add(a, b):'", "f5", "wait", "escape", "9")),
    "prompt": Picture(("p", "wait", "'def add(a, b):'", "f5", "wait")),
}


def main() -> None:
    given = sys.argv[1:]
    path = Path(given[0]) if given else Path(tempfile.mkdtemp()) / "demo.lens"
    if not path.exists():
        demo(path, no_tui=True)
        heads(path)
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in given[1:] or PICTURES:
        for size in SIZES:
            target = TARGET / f"{name}-{size}.png"
            target.write_bytes(asyncio.run(_taken(path, PICTURES[name], SIZES[size])))
            print(target)  # noqa: T201


async def _taken(path: Path, picture: Picture, size: tuple[int, int]) -> bytes:
    os.environ.pop("NO_COLOR", None)
    if picture.no_color:
        os.environ["NO_COLOR"] = "1"
    with open_catalog(path) as store:
        confine(store)
        app = LensApp(store)
        async with app.run_test(size=size) as pilot:
            await _settled(app, pilot)
            for key in picture.keys:
                await _press(app, pilot, key)
            await pilot.pause(0.5)
            return screen_as_png(app.export_screenshot())


async def _press(app: LensApp, pilot: Pilot, key: str) -> None:
    if key == "wait":  # for the worker, which loads a model first
        for _ in range(600):
            await pilot.pause(0.1)
            if app.workspace.jobs.listed and not app.workspace.jobs.running:
                return
    elif key.startswith("'"):
        for letter in key.strip("'"):
            await pilot.press(_NAMES.get(letter, letter))
    else:
        await pilot.press(key)
    await _settled(app, pilot)


async def _settled(app: LensApp, pilot: Pilot) -> None:
    await pilot.pause(0.3)
    for _ in range(3):
        await app.workers.wait_for_complete()
        await pilot.pause()


if __name__ == "__main__":
    main()
