"""`@` copies a command line that opens what is seen, and `:` takes the same words."""

import random
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.screen import ModalScreen
from textual.widgets import Input
from typer.testing import CliRunner

from energylens.cli import app as command
from energylens.cli import screens as cli_screens
from energylens.db.store import Store
from energylens.errors import UsageError
from energylens.tui.address import Told, arguments, line_of, lines_of, read_line
from energylens.tui.modals.address import AddressModal
from energylens.tui.screens.efas import EfasScreen
from energylens.tui.start import look_up
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.tui.conftest import Driver, Open
from tests.tui.test_soak import NO_WORKER

WALKS = {
    "overview": ["down"],
    "features": ["2", "down", "down"],
    "features, filtered and sorted": ["2", "right", "right", "s", "/", *"id<9", "enter", "down"],
    "specialists": ["3", "down", "right"],
    "specialists, in the list": ["3", "down", "enter", "down", "down"],
    "specialists, by layer": ["3", "t", "enter", "down"],
    "efas": ["4", "down", "S"],
    "efas, another gradient": ["4", "v", *"total", "enter", "/", *"id<9", "enter", "down"],
    "another SAE": ["2", "c", *"two", "enter", "down"],
    "coactivation": ["5", "f", "down"],
    "coactivation, by texts": ["5", "u", "f"],
    "coactivation, two hops": ["5", "f", "enter", "down", "enter", "down"],
    "clusters": ["5", "t"],
    "routing": ["6", "down", "right", "s"],
    "paths": ["6", "t", "down", "down"],
    "texts": ["7", "down"],
    "hard tokens of a category": ["7", "f", "b", "enter", "v", "down", "s", "down"],
    "masks": ["7", "M", "space", "escape", "down"],
    "jobs": ["9"],
    "heads": ["0", "t"],
    "heads, in the list": ["0", "tab", "s"],
    "head": ["0", "enter", "tab"],
    "attention": ["0", "enter", "tab", "enter"],
    "graphs": ["W", "down"],
    "a graph": ["W", "enter", "down", "left", "down"],
    "a graph, all nodes": ["W", "down", "enter", "f", "t"],
    "a feature": ["2", "down", "enter", "down", "right", "right"],
    "a feature of another list": ["4", "/", *"id>2", "enter", "down", "enter"],
    "texts of a feature": ["2", "enter", "t", "down", "down"],
    "a text": ["7", "down", "t", "right", "right"],
    "a shaded text, in its list": ["2", "enter", "t", "enter", "right", "tab", "down"],
    "a landscape": ["7", "down", "enter", "right", "right", "down"],
    "lab": ["2", "enter", "a"],
    "lab, more": ["2", "enter", "a", "plus"],
    "steering": ["2", "enter", "a", "s", "n"],
    "attribution": ["7", "t", "right", "A"],
    "a prompt": ["p", *"a 'cat' $x", "f5"],
    "two features": ["2", "equals_sign", "down", "equals_sign"],
    "two SAEs": ["1", "equals_sign", "down", "equals_sign"],
}


def comes_to(monkeypatch: pytest.MonkeyPatch, line: str) -> Told:
    """What the command understands of a line, as a shell would hand it over."""
    heard: list[Told] = []
    monkeypatch.setattr(cli_screens, "explore", lambda *words: heard.append(words[4]))
    words = shlex.split(line)
    assert words[0] == "energylens"
    found = CliRunner().invoke(command, words[1:])
    assert found.exit_code == 0, found.output
    return heard[0]


async def copied(d: Driver) -> str:
    """The line that is copied here."""
    await d.press("at")
    assert isinstance(d.app.screen, AddressModal)
    shown = " ".join(line.removesuffix("\\").strip() for line in d.lines)
    line = d.app.clipboard
    assert " ".join(line.split()[:2]) in shown
    await d.press("escape")
    return line


def seen(d: Driver) -> list[str]:
    """What a person reads; a feature of no list stands alone in it."""
    return [line.partition(" of 48")[0] if "Features >" in line else line for line in d.lines]


@pytest.mark.parametrize("walk", WALKS.values(), ids=WALKS.keys())
async def test_the_copied_line_opens_what_was_seen(
    drive: Open, rich_path: Path, monkeypatch: pytest.MonkeyPatch, walk: list[str]
) -> None:
    await opens_again(drive, rich_path, monkeypatch, walk)


async def opens_again(
    drive: Open, rich_path: Path, monkeypatch: pytest.MonkeyPatch, walk: list[str]
) -> None:
    """What is seen after a walk, the copied line opens."""
    async with drive("large", rich_path, worker=NO_WORKER) as d:
        await d.press(*walk)
        while isinstance(d.app.screen, ModalScreen):
            await d.press("escape")
        if isinstance(d.app.focused, Input):
            await d.press("enter")
        await d.pilot.pause(0.2)
        d.app.clear_notifications()
        await d.settle()
        line, kind, before = await copied(d), type(d.app.screen), seen(d)
    told = comes_to(monkeypatch, line)
    assert read_line(line) == (str(rich_path.resolve()), told)
    async with drive("large", rich_path, told=told, worker=NO_WORKER) as d:
        await d.pilot.pause(0.2)
        await d.settle()
        assert type(d.app.screen) is kind
        assert seen(d) == before, line
        assert await copied(d) == line


STEPS = (
    *([key] for key in "2345670tvusScf"),
    *([key] for key in ("down", "up", "right", "left", "enter", "escape", "tab", "end")),
    ["down"], ["down"], ["enter"], ["right"],
    ["slash", "9", "enter"], ["slash", "t", "h", "e", "enter"],
    ["M", "space", "escape"],
)  # fmt: skip
"""Keys that change nothing in the store."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
async def test_the_line_copied_after_any_keys_opens_what_was_seen(
    drive: Open, rich_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chosen = random.Random(seed)
    walk = [key for _ in range(14) for key in chosen.choice(STEPS)]
    await opens_again(drive, rich_path, monkeypatch, walk)


_WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1)
_VALUES = {
    field.name: st.none() | (st.integers(1, 1 << 40) if "int" in str(field.type) else _WORDS)
    for field in fields(Told)
}


@given(st.builds(Told, **_VALUES), st.integers(10, 200))
def test_words_of_any_kind_come_through_a_shell(told: Told, width: int) -> None:
    line = line_of(Path("/a b/it's $x.lens"), told)
    assert read_line(line) == ("/a b/it's $x.lens", told)
    assert read_line(shlex.join(arguments(told))) == (None, told)
    broken = "\n".join(lines_of(line, width))
    assert shlex.split(broken.replace(" \\\n", " ")) == shlex.split(line)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--nothing 1", "no --nothing; there is: --run"),
        ("--row x", "--row takes a number"),
        ("--run", "--run takes a value"),
        ("--filter 'a", "as a shell would"),
        ("energylens sql x", "opens no screen"),
        ("energylens tui a b", "'b' is no option"),
        ("--sql nowhere.sql", "no file 'nowhere.sql'"),
    ],
)
def test_lines_that_cannot_be_read_say_why(line: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_line(line)


async def test_the_jump_line_takes_the_words_of_the_command(drive: Open, rich_path: Path) -> None:
    async with drive("large", rich_path) as d:
        await d.press("2", "enter", "colon", *"--view efas --filter feature_id<3 --row 2", "enter")
        assert isinstance(d.app.screen, EfasScreen)
        await d.until("3 of ")
        assert d.app.screen.query_one("#ranking", VirtualTable).cursor_row == 1
        line = await copied(d)
        await d.press("1", "colon")
        d.app.screen.query_one(Input).value = line
        await d.press("enter")
        await d.until("3 of ")
        assert await copied(d) == line


async def test_a_line_of_another_store_is_refused(drive: Open, rich_path: Path) -> None:
    async with drive("large", rich_path) as d:
        await d.press("colon", *"energylens tui other.lens --view efas", "enter")
        await d.hears("the line opens 'other.lens'; this is")


async def test_the_line_is_sent_to_the_terminal_and_shown_in_pieces_a_shell_takes(
    drive: Open, rich_path: Path
) -> None:
    async with drive("80x24", rich_path) as d:
        await d.press("2", "/", *"id<9", "enter", "at")
        assert "OSC 52" in d.text
        shown = [line for line in d.lines if line.startswith(("energylens", "--"))]
        assert shown and all(line.endswith(" \\") for line in shown[:-1])
        joined = " ".join(line.removesuffix("\\") for line in shown)
        assert shlex.split(joined) == shlex.split(d.app.clipboard)


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (Told(page="nothing"), "--page takes feature, texts"),
        (Told(page="lab", feature="two:1"), "--page lab needs --prompt"),
        (Told(text=1000), "no text 1000"),
        (Told(head="x"), "--head takes a layer and a head"),
        (Told(unmask="all"), "--unmask takes special, first, sinks"),
        (Told(row=0), "--row counts from 1"),
        (Told(page="attribution", sae="two", token=10**9), "no token 1000000000"),
    ],
)
def test_what_cannot_be_found_is_said_before_it_opens(rich: Store, told: Told, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        look_up(told, rich)
