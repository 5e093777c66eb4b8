"""The command palette: every action of the screen in view, and whatever `:` finds."""

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import cast

import duckdb
from textual.app import App
from textual.command import CommandPalette, DiscoveryHit, Hit, Hits, Provider
from textual.content import Content
from textual.css.styles import RenderStyles
from textual.types import IgnoreReturnCallbackType

from energylens.db.store import Session
from energylens.errors import EnergyLensError, UsageError
from energylens.queries.display import visible
from energylens.tui.finding import Goal, by_words, goals
from energylens.tui.follow import follow
from energylens.tui.fuzzy import Found, places_of
from energylens.tui.jump import Jump
from energylens.tui.state import workspace_of
from energylens.tui.widgets.view_bar import VIEWS

_WIDEST = 90
"""Characters that are said of an entry."""


class Palette(CommandPalette):
    """One that may be closed while it is searched."""

    def get_component_styles(self, *names: str) -> RenderStyles:
        """Those it has; what is found for one that has gone is drawn nowhere, but Textual asks."""
        return super().get_component_styles(*names) if self.is_attached else self.styles


class LensCommands(Provider):
    """Found by any part of their names; names are drawn as they are, never read as markup."""

    async def discover(self) -> Hits:
        """Everything, before a letter is typed."""
        for title, doc, run in self._commands():
            yield DiscoveryHit(Content(title), run, text=title, help=_as_it_is(doc))

    async def search(self, query: str) -> Hits:
        """What matches the letters typed."""
        for title, doc, run in self._commands():
            score, _ = places_of(title, query.strip().lower())
            if score > 0:
                yield Hit(score / 5, Content(title), run, text=title, help=_as_it_is(doc))
        for found in await self._by_words(query):
            title, doc = _told(found.entry)
            go = partial(self._go, found.entry.value)
            yield Hit(found.score / 5, Content(title), go, text=title, help=_as_it_is(doc))

    async def _by_words(self, query: str) -> list[Found[Jump]]:
        """What the store knows of the words; it is interrupted when another letter follows."""
        workspace = workspace_of(self.screen)
        here, session = workspace.selection, Session(workspace.store)
        if here is None or not query.strip():
            return []
        try:
            ask = partial(by_words, session, workspace, here, query.strip())
            return await asyncio.to_thread(ask)
        except asyncio.CancelledError:
            session.interrupt()
            raise
        except (EnergyLensError, duckdb.Error):  # other programs may change the store meanwhile
            return []

    async def _go(self, jump: Jump) -> None:
        try:
            await follow(cast("App[None]", self.app), jump)
        except UsageError as error:
            self.app.notify(str(error), severity="warning", markup=False, timeout=10)

    def _commands(self) -> Iterator[tuple[str, str, IgnoreReturnCallbackType]]:
        """Title, what it does, and the doing."""
        app, workspace = self.app, workspace_of(self.screen)
        for key, mode, title, _ in VIEWS:
            yield f"view: {title}", f"key {key}", partial(app.switch_mode, mode)
        for active in self.screen.active_bindings.values():
            binding = active.binding
            if active.enabled and binding.description:
                key = app.get_key_display(binding)
                doc = f"{binding.tooltip or binding.description}, key {key}"
                act = partial(app.run_action, binding.action, active.node)
                yield f"here: {binding.description}", doc, act
        for goal in goals(workspace):
            if goal.kind not in ("view", "key"):
                yield *_told(goal), partial(self._go, goal.value)


def _as_it_is(text: str) -> str:
    """Help that the palette does not read as markup: it asks for a text, and takes content too."""
    return cast("str", Content(text))


def _told(goal: Goal) -> tuple[str, str]:
    """A title, and what is said of it on one line."""
    about = goal.about if len(goal.about) <= _WIDEST else f"{goal.about[: _WIDEST - 1]}…"
    return visible(f"{goal.kind}: {goal.title}"), visible(about)
