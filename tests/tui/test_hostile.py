"""A store whose every text wants to take over the terminal: it is shown, and never obeyed."""

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.widgets import TextArea

from energylens.db.explanations import Explanation, write_explanations
from energylens.db.layout import StoreLayout
from energylens.db.notes import Note, write_note
from energylens.db.provenance import read_run, write_run
from energylens.ingest.plan import IngestConfig
from energylens.queries.catalog import open_catalog
from energylens.queries.pages.feature_pages import most_active, write_feature_folder
from energylens.report.build import write_report
from energylens.tui.guard import OnlyText
from tests.conftest import make_gpt2, make_sae, make_store
from tests.tui.conftest import Driver, Open

EVIL = (
    "\x1b]0;EVIL\x07\x1b]52;c;RVZJTA==\x1b\\\x1bP+q\x1b\\\x1b_EVIL\x1b\\\x1b[7777mEVIL"
    "\x9b7777mEVIL\x9d0;EVIL\x9c\u202eLIVE\u2066\u200b\x00\x08\x7f[bold]EVIL[/][link=EVIL]x[/link]"
)
"""Titles, the clipboard, device control, colours, in both spellings; bidi; markup of two kinds."""
OBEYED = re.compile(
    rb"\x1b\]|\x1bP|\x1b_|\x1b\[7777|\xc2[\x80-\x9f]|\xe2\x80[\x8b\xaa-\xae]|\xe2\x81[\xa6-\xa9]|\x08"
)
"""What only the store can have sent."""
OWN = re.compile(rb"\x1b\]22;[a-z-]*(\x1b\\|\x07)|\x1b\]8;;\x1b\\")
"""What Textual sends: the shape of the pointer, the end of a link."""
SQL = f'SELECT category, 1 AS "{EVIL.replace(chr(0), "")}" FROM texts'


@pytest.fixture(scope="module")
def hostile_path(tmp_path_factory: pytest.TempPathFactory, save_model: Callable[..., Path]) -> Path:
    """A store of which every text is evil that may be any text."""
    root = tmp_path_factory.mktemp("hostile")
    named = EVIL.replace("/", "").replace("\x00", "")
    make_sae("standard", "blocks.1.hook_resid_post").save_model(root / "saes" / named)
    with (root / "texts.jsonl").open("w") as lines:
        for number in range(24):
            text = f"{number} the cat {EVIL} sat on {EVIL} the mat"
            lines.write(json.dumps({"text": text, "category": f"{EVIL}{number % 3}"}) + "\n")
    config = IngestConfig(
        model=str(save_model(make_gpt2())),
        texts=str(root / "texts.jsonl"),
        saes=(str(root / "saes"),),
        accept_gate=True,
    )
    path = root / "hostile.lens"
    run_id = make_store(path, config)
    layout = StoreLayout(path).run(run_id)
    run = read_run(layout.run_json)
    sae_id = run.saes[0].sae_id
    saes = [replace(sae, architecture=EVIL, gate=EVIL, source=EVIL) for sae in run.saes]
    told = {"model": EVIL, "model_class": EVIL, "created": EVIL, "texts": EVIL, "loader": EVIL}
    write_run(layout.run_json, replace(run, saes=saes, notices=[EVIL], **told))
    for feature_id in range(12):
        write_note(layout, Note(run_id, sae_id, feature_id, is_starred=True, note=EVIL))
    said = [Explanation(run_id, sae_id, n, EVIL, EVIL, EVIL) for n in range(12)]
    write_explanations(layout, sae_id, said)
    return path


def sent(driver: Driver) -> bytes:
    """What the program would send to draw its screen anew."""
    update: Any = driver.app.screen._compositor.render_update(full=True)
    return OWN.sub(b"", update.render_segments(driver.app.console).encode())


WALK = [
    "1",
    "enter",
    "space",
    "escape",
    "F",
    "escape",
    "=",
    "e",
    "escape",
    "2",
    "down",
    "space",
    "escape",
    "l",
    "l",
    "F",
    "escape",
    "enter",
    "right",
    "t",
    "enter",
    "tab",
    "f",
    "escape",
    "escape",
    "i",
    "m",
    "u",
    "v",
    "escape",
    "slash",
    "x",
    "escape",
    "=",
    "down",
    "=",
    "escape",
    "g",
    "3",
    "escape",
    "colon",
    "s",
    "escape",
    "3",
    "right",
    "enter",
    "escape",
    "f",
    "escape",
    "4",
    "down",
    "v",
    "escape",
    "x",
    "t",
    "escape",
    "enter",
    "escape",
    "5",
    "enter",
    "escape",
    "u",
    "escape",
    "6",
    "v",
    "enter",
    "escape",
    "7",
    "v",
    "v",
    "v",
    "enter",
    "right",
    "t",
    "escape",
    "escape",
    "f",
    "escape",
    "n",
    "a",
    "v",
    "r",
    "w",
    "x",
    "y",
    "Y",
    "e",
    "escape",
    "8",
    "f2",
    "escape",
    "f6",
    "9",
    "ctrl+p",
    "f",
    "e",
    "escape",
    "question_mark",
    "escape",
    "p",
]


@pytest.mark.parametrize("size", ["large", pytest.param("small", marks=pytest.mark.slow)])
async def test_a_walk_through_a_hostile_store(drive: Open, hostile_path: Path, size: str) -> None:
    shown = 0
    async with drive(size, hostile_path) as d:
        for key in WALK:
            await d.press(key)
            out = sent(d)
            assert not OBEYED.search(out), (key, d.text)
            shown += "␛]" in d.text or "\N{REPLACEMENT CHARACTER}" in d.text
        await d.press("escape", "escape", "8")
        d.app.screen.query_one("#editor", TextArea).text = SQL
        for key in ("f5", "f6", "space", "escape", "F", "escape", "f3"):
            await d.press(key)
            assert not OBEYED.search(sent(d)), key
        d.app.notify(EVIL)
        await d.until("␛]52")
        assert not OBEYED.search(sent(d)) and "[bold]EVIL" in d.text.replace("\n", "")
    assert shown > len(WALK) / 3, "evil was hardly anywhere on the way"


def test_a_real_terminal_gets_no_sequence_from_a_store(hostile_path: Path) -> None:
    main, side = pty.openpty()
    subprocess.run(["stty", "cols", "140", "rows", "40"], stdin=side, check=True)
    command = [sys.executable, "-m", "energylens", "tui", str(hostile_path)]
    own = os.environ | {"TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, env=own)
    os.close(side)
    out, keys = b"", ["1", "2", " ", "\x1b", "\r", "t", "\r", "7", "\r", "8", "\x1b[15~", "\x11"]
    until = time.monotonic() + 120
    try:
        while process.poll() is None and time.monotonic() < until:
            if select.select([main], [], [], 0.3)[0]:
                try:
                    out += os.read(main, 65536)
                except OSError:  # the other side is closed
                    break
            elif keys and b"fvu" in out:  # it is quiet: what was asked for is drawn
                os.write(main, keys.pop(0).encode())
        assert process.wait(20) == 0 and not keys
    finally:
        process.kill()
        os.close(main)
    assert "␛]0;EVIL".encode() in out
    found = OBEYED.search(OWN.sub(b"", out))
    assert found is None, out[max(0, found.start() - 100) : found.end() + 50]


@given(st.lists(st.text(max_size=12), max_size=4))
def test_a_line_stays_as_wide_as_it_is_and_moves_nothing(texts: list[str]) -> None:
    line = [Segment(text, Style(link="https://example.org")) for text in texts]
    guarded = OnlyText().apply(line, Color(0, 0, 0))
    assert Segment.get_line_length(guarded) == Segment.get_line_length(line)
    for segment in guarded:
        assert segment.style is None or segment.style.link is None
        assert not OBEYED.search(segment.text.encode())


def test_what_is_sound_passes_unchanged() -> None:
    line = [Segment("naïve 👩\u200d🚀 ─█"), Segment(" x", Style(bold=True))]
    assert OnlyText().apply(line, Color(0, 0, 0)) == line


def test_pages_show_it_and_obey_nothing(hostile_path: Path, tmp_path: Path) -> None:
    with open_catalog(hostile_path) as store:
        run = store.infos[0]
        sae = run.saes[0]
        features = most_active(store, run.run_id, sae.sae_id, 6)
        write_feature_folder(store, run, sae, features, tmp_path / "pages", lambda *_: None)
        write_report(store, run, 24, tmp_path / "report", lambda _: None)
    report = tmp_path / "report"
    svgs = [path for path in (report / "figures").glob("*.svg") if "EVIL" in path.read_text()]
    assert svgs
    pages = [*(tmp_path / "pages").iterdir(), report / "report.html", report / "report.md"]
    for path in [*pages, *svgs]:
        page = path.read_bytes()
        assert b"EVIL" in page and not OBEYED.search(page)
        assert b"\x1b" not in page and b"\x00" not in page
