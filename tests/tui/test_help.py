"""Help tells of every key, and every key it tells of is there."""

import re
from pathlib import Path

import pytest
from textual.binding import Binding
from textual.screen import Screen

from energylens.tui.kinds.base import LensScreen
from energylens.tui.modals.help import HelpModal
from tests.tui.conftest import Driver, Open

VIEWS = {
    "Overview": (),
    "Features": ("2",),
    "Feature": ("2", "enter"),
    "Map": ("2", "d"),
    "Texts of a feature": ("2", "enter", "t"),
    "Two features side by side": ("2", "equals_sign", "down", "equals_sign"),
    "Two SAEs side by side": ("equals_sign", "down", "equals_sign"),
    "Specialists": ("3",),
    "EFAS": ("4",),
    "Co-activation": ("5",),
    "Routing": ("6",),
    "Energy": ("7",),
    "Energy of a text": ("7", "enter"),
    "Text": ("7", "t"),
    "SQL": ("8",),
    "Jobs": ("9",),
    "Prompt": ("p", "escape"),
    "Attribution": ("2", "enter", "down", "A"),
    "Heads": ("0",),
    "A head": ("0", "enter"),
    "Graphs": ("W",),
    "A graph": ("W", "enter"),
}
SPELLED = {
    "esc": "escape",
    "page down": "pagedown",
    "page up": "pageup",
    "/": "slash",
    "=": "equals_sign",
    "*": "asterisk",
    "[": "left_square_bracket",
    "]": "right_square_bracket",
    "+": "plus",
    "-": "minus",
    "?": "question_mark",
}
EVERYWHERE = {"tab", "up", "down", "left", "right", "space", "enter"}
KEY = re.compile(r"\*\*([^*\s]{1,9}|page down|page up)\*\*|`(\*)`")


def told(screen: Screen) -> set[str]:
    """The keys a screen's help tells of, as Textual names them; words in bold are no keys."""
    found = [bold or star for bold, star in KEY.findall(screen.HELP or "")]
    names = {
        SPELLED.get(name) or (name.lower() if re.fullmatch(r"F\d+", name) else name)
        for name in found
    }
    return {name for name in names if _is_key(name)}


def _is_key(name: str) -> bool:
    known = len(name) == 1 or name in EVERYWHERE or name in SPELLED.values()
    return known or re.fullmatch(r"f\d+|(ctrl|alt)\+\w+", name) is not None


def own_bindings(screen: Screen) -> list[Binding]:
    """The bindings a screen's class and those above it define, up to what every screen has."""
    found: list[Binding] = []
    for base in type(screen).__mro__:
        if base is LensScreen:
            break
        found += [b for b in base.__dict__.get("BINDINGS", ()) if isinstance(b, Binding)]
    return found


@pytest.mark.parametrize("size", ["small", pytest.param("large", marks=pytest.mark.slow)])
async def test_help_and_keys_agree(drive: Open, rich_path: Path, size: str) -> None:
    async with drive(size, rich_path) as d:
        for title, keys in VIEWS.items():
            await d.press(*["escape"] * 4, "1")
            d.app.clear_notifications()  # that there is nothing to go back to
            await d.press(*keys)
            await agree(d, title)


async def agree(d: Driver, title: str) -> None:
    """Of the screen that is open."""
    screen = d.app.screen
    keys = told(screen)
    bound = {key for node in (screen, *screen.query("*")) for key in node._bindings.key_to_bindings}
    bound |= set(d.app._bindings.key_to_bindings)
    assert keys - EVERYWHERE <= bound, f"{title}: {keys - EVERYWHERE - bound} do nothing here"
    for binding in own_bindings(screen):
        said = set(binding.key.split(",")) & keys
        assert binding.show or said, f"nothing tells of {binding.key}: {binding.description}"
    if title != "SQL":  # where it is typed
        await d.press("question_mark")
        assert isinstance(d.app.screen, HelpModal), title
        assert title.split()[0] in d.text, f"'{title}' is on the screen"
        await d.reach("Quit", by="end")  # whose text is parsed in a thread of its own
        await d.press("question_mark")
        assert d.app.screen is screen
