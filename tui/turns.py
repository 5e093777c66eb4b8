"""Keys take effect one after the other, however quickly they come.

Textual hands a key to the widget in focus at once. Keys that come in one packet (typed ahead on
a slow line) would all go to the widget that had the focus before the first of them: `/` opens a
filter, and the letters behind it act as keys of the list. So a key waits until the one before
has gone all the way up from its widget to the app, and what that opened has got the focus.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from textual import events
from textual.app import App
from textual.message_pump import MessagePump

Typed = events.Key | events.Paste

_LONGEST_WAIT = 2.0
"""Seconds after which a key goes on, whatever became of the one before."""


class Turns:
    """Hands typed events on, one by one."""

    def __init__(self, app: App, hand_on: Callable[[Typed], Awaitable[None]]) -> None:
        self._app = app
        self._hand_on = hand_on
        self._held: deque[Typed] = deque()
        self._under_way: asyncio.TimerHandle | None = None

    async def take(self, event: Typed) -> None:
        """Hand an event on now, or as soon as those before it have taken effect."""
        if self._under_way is None:
            await self._begin(event)
        else:
            self._held.append(event)

    async def _begin(self, event: Typed) -> None:
        turn = asyncio.get_running_loop().call_later(
            _LONGEST_WAIT, lambda: self._app.call_later(self._end, turn)
        )
        self._under_way = turn
        lowest = self._app.focused or self._app.screen
        way = [lowest, *lowest.ancestors]
        await self._hand_on(event)
        messages = [*way, *way]  # the key on its way up, then what its action told the widgets
        _behind(iter(messages), lambda: self._wait_for_screen(turn))

    def _wait_for_screen(self, turn: asyncio.TimerHandle) -> None:
        _behind(iter([self._app.screen, self._app]), lambda: self._end(turn))

    async def _end(self, turn: asyncio.TimerHandle) -> None:
        turn.cancel()
        if turn is self._under_way:
            self._under_way = None
            if self._held:
                await self._begin(self._held.popleft())


def _behind(pumps: Iterator[MessagePump], then: Callable[[], object]) -> object:
    """Do something when each pump in turn has come through all that it holds now."""
    for pump in pumps:
        if pump.call_later(_behind, pumps, then):
            return None
    return then()
