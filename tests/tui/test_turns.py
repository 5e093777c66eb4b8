"""Keys that come faster than the screen follows act as if they had been pressed one by one."""

import asyncio
from pathlib import Path

import pytest
from textual import events
from textual.app import App, ComposeResult
from textual.widgets import Input

from energylens.db.store import Store
from energylens.queries.efas import efas_ranking
from energylens.tui import turns
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.sql import SqlScreen
from energylens.tui.turns import Turns
from energylens.tui.widgets.filter_bar import FilterBar
from energylens.tui.widgets.sql_editor import SqlEditor
from tests.tui.conftest import Open


async def test_a_filter_typed_at_once_filters(
    drive: Open, rich: Store, rich_run: str, rich_path: Path
) -> None:
    ranking = efas_ranking(rich, rich_run, "mlp", k=10_000)
    left = len(ranking.filter(ranking["q"] < 0.05))
    async with drive("large", rich_path) as d:
        await d.press_ahead(*"4/q < 0.05", "enter")
        assert d.app.screen.query_one(FilterBar).text == "q < 0.05"
        await d.until(f"{left:,} of {len(ranking):,}")
        await d.press_ahead(*"/t > 0", "escape", *"/t < 0", "home", "-")
        assert d.app.screen.query_one(FilterBar).text == "-t < 0"


async def test_what_is_pasted_goes_where_the_key_before_it_led(
    drive: Open, rich_path: Path
) -> None:
    async with drive("small", rich_path) as d:
        await d.press("4")
        d.app.post_message(events.Key("slash", "/"))
        d.app.post_message(events.Paste("q < 0.05"))
        await d.settle()
        assert d.app.screen.query_one(FilterBar).text == "q < 0.05"


async def test_a_jump_typed_at_once_arrives(drive: Open) -> None:
    async with drive("large") as d:
        await d.press_ahead(*":feature 3", "enter")
        assert isinstance(d.app.screen, FeatureScreen)
        assert " Feature 3 " in d.text


async def test_a_key_of_the_app_waits_for_the_letters_before_it(drive: Open) -> None:
    async with drive("large") as d:
        await d.press("8")
        assert isinstance(d.app.screen, SqlScreen)
        d.app.screen.query_one(SqlEditor).text = ""
        await d.press_ahead(*"select 6 * 7 as answer", "f5")
        await d.until("42")


@pytest.mark.parametrize(("view", "turn"), [("6", "v"), ("7", "v"), ("5", "t"), ("3", "t")])
async def test_rows_are_what_they_are_while_others_are_on_their_way(
    drive: Open, rich_path: Path, view: str, turn: str
) -> None:
    async with drive("large", rich_path) as d:
        for keys in ((turn, "enter"), (turn, "/", "a", "enter"), ("enter", turn, "escape")) * 3:
            await d.press(view)
            await d.press_ahead(*keys)
            await d.press("escape")
        assert d.app.is_running


class Slow(Input):
    """An input that comes to the end of a key when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = asyncio.Event()

    async def on_key(self) -> None:
        await self.may_end.wait()


class Small(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.turns = Turns(self, super().on_event)

    def compose(self) -> ComposeResult:
        yield Slow()

    def on_key(self, event: events.Key) -> None:
        self.seen.append(event.key)

    async def on_event(self, event: events.Event) -> None:
        if isinstance(event, events.Key) and not event.is_forwarded:
            await self.turns.take(event)
        else:
            await super().on_event(event)
            if isinstance(event, events.Key):
                self.turns.arrived(event)


async def test_a_key_that_never_ends_does_not_hold_the_next_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "_LONGEST_WAIT", 0.05)
    app = Small()
    async with app.run_test():
        app.post_message(events.Key("a", "a"))
        await asyncio.sleep(0.01)
        app.set_focus(None)
        app.post_message(events.Key("b", "b"))
        await asyncio.sleep(0.01)
        assert app.seen == []
        while not app.seen:
            await asyncio.sleep(0.01)
        assert app.seen == ["b"]
        app.query_one(Slow).may_end.set()
