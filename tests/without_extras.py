"""Energy-Lens as the base install has it: what the base does not bring cannot be imported.

    python tests/without_extras.py WORK < commands

Imports every module that base promises, opens every screen, then runs the commands, each a JSON
list on a line of its own; answers each with a JSON list of its exit code and what it said. `{work}`
in a command is WORK, where `tiny.lens` is a store and `bare.lens` the same without its index.
"""

import asyncio
import importlib
import json
import pkgutil
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import (
    Distribution,
    PackageNotFoundError,
    packages_distributions,
    requires,
)
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("cli", "db", "queries", "stats", "tui")
OF_AN_EXTRA = {"energylens.cli.guarded_server", "energylens.cli.mcp_server"}
"""Imported only once the extra it needs has been found."""


def base_distributions() -> set[str]:
    """What `pip install energy-lens` brings, by the requirements of what is installed here."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found: set[str] = {"energy-lens"}
    todo = [(Requirement(line), "") for line in project["dependencies"]]
    seen = set()
    while todo:
        wanted, extra = todo.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(wanted.name)
        for asked in ("", *wanted.extras):
            if (name, asked) not in seen:
                seen.add((name, asked))
                try:
                    todo += [(Requirement(line), asked) for line in requires(name) or ()]
                except PackageNotFoundError:  # for another system
                    continue
                found.add(name)
    return found


def foreign_modules() -> frozenset[str]:
    """Top-level modules that an installed package brings, and no package of the base."""
    from packaging.utils import canonicalize_name

    base = base_distributions()
    return frozenset(
        module
        for module, makers in packages_distributions().items()
        if not {canonicalize_name(maker) for maker in makers} & base
    )


class Without(MetaPathFinder):
    """A finder of modules and distributions that does not find some."""

    def __init__(self, finder: Any, names: frozenset[str], base: set[str]) -> None:
        self.finder, self.names, self.base = finder, names, base

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self.names:
            return None
        return self.finder.find_spec(fullname, path, target)

    def find_distributions(self, context: Any) -> Iterator[Distribution]:
        from packaging.utils import canonicalize_name

        found = getattr(self.finder, "find_distributions", lambda _: ())(context)
        return (one for one in found if canonicalize_name(one.name) in self.base)


def import_everything() -> int:
    """Import every module of PACKAGES; how many there are."""
    n = 0
    for package in PACKAGES:
        root = importlib.import_module(f"energylens.{package}")
        for found in pkgutil.walk_packages(root.__path__, f"{root.__name__}."):
            if found.name in OF_AN_EXTRA:
                continue
            importlib.import_module(found.name)
            n += 1
    return n


async def open_screens(store: Path) -> str:
    """Every view by its number; the text of the last one."""
    from energylens.queries.catalog import open_catalog
    from energylens.tui.app import LensApp

    with open_catalog(store) as opened:
        app = LensApp(opened)
        async with app.run_test(size=(120, 40)) as pilot:
            for key in "123456798":
                await pilot.press(key)
                await app.workers.wait_for_complete()
                await pilot.pause()
            strips = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip) for strip in strips)


def run(arguments: list[str]) -> tuple[int, str]:
    """A command's exit code, and what it said on stdout and stderr."""
    from typer.testing import CliRunner

    from energylens.cli import app

    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output


def main(work: Path, lines: Iterable[str]) -> None:
    names, base = foreign_modules(), base_distributions()
    sys.meta_path[:] = [Without(finder, names, base) for finder in sys.meta_path]
    assert find_spec("torch") is None and find_spec("pytest") is None
    answer(0, f"{import_everything()} modules")
    screen = asyncio.run(open_screens(work / "tiny.lens"))
    answer(0 if "SELECT" in screen else 1, screen)
    for line in lines:
        answer(*run([part.replace("{work}", str(work)) for part in json.loads(line)]))


def answer(code: int, text: str) -> None:
    sys.stdout.write(json.dumps([code, text]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.stdin)
