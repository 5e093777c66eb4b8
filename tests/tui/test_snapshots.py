"""A few screens as pictures, compared cell by cell and colour by colour.

The pictures hold nothing a model computed, so that they are the same on every machine. After a
change that is wanted: `ENERGYLENS_SNAPSHOTS=write pytest tests/tui/test_snapshots.py`, and look.
(pytest-textual-snapshot keeps pytest below 9, so the comparison is done here.)
"""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from energylens.db.version import create_store
from energylens.queries.adhoc import SqlResult, ask
from tests.tui.conftest import Open

HERE = Path(__file__).parent / "snapshots"
PICTURES = {
    "overview-empty": ("80x24", ()),
    "overview-empty-wide": ("160x45", ()),
    "help": ("160x45", ("question_mark",)),
    "jump": ("80x24", ("colon", *"spec")),
    "sql": ("80x24", ("8",)),
    "too-small": ("59x14", ()),
}


def timed(*given: Any) -> SqlResult:
    """A statement's answer, as if it had always taken as long."""
    return replace(ask(*given), seconds=0.007)


@pytest.mark.parametrize("name", PICTURES)
async def test_a_screen_looks_as_it_did(
    drive: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("energylens.tui.screens.sql.ask", timed)
    path = Path("empty.lens")  # shown as it is given
    create_store(path)
    size, keys = PICTURES[name]
    async with drive(size, path) as d:
        await d.press(*keys)
        for node in d.app.screen.query("Input, TextArea"):
            node.cursor_blink = False  # type: ignore[attr-defined]
        await d.settle()
        svg = re.sub(r"terminal-\d+", "terminal", d.app.export_screenshot())
    expected = HERE / f"{name}.svg"
    if os.environ.get("ENERGYLENS_SNAPSHOTS") == "write":
        HERE.mkdir(exist_ok=True)
        expected.write_text(svg, encoding="utf-8")
    assert svg == expected.read_text(encoding="utf-8")
