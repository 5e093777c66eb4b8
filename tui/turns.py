"""Keys take effect one after the other, however quickly they come.

Textual hands a key to the widget in focus at once. Keys that come in one packet (typed ahead on
a slow line) would all go to the widget that had the focus before the first of them: `/` opens a
filter, and the letters behind it act as keys of the list. So a key waits until the one before
has gone all the way up from its widget to the app, and what that opened has got the focus.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

from textual import events
from textual.app import App
from textual.message_pump import MessagePump

Typed = events.Key | events.Paste

_LONGEST_WAIT = 2.0
"""Seconds after which a key goes on, whatever became of the one before."""


_LOOK_AGAIN = 0.01
"""Seconds between two looks whether a screen is there."""


class Turns:
    """Hands typed events on, one by one."""

    def __init__(self, app: App, hand_on: Callable[[Typed], Awaitable[None]]) -> None:
        self._app = app
        self._hand_on = hand_on
        self._held: deque[Typed] = deque()
        self._on_its_way: Typed | None = None
        self._way: list[MessagePump] = []
        self._limit: asyncio.TimerHandle | None = None

    async def take(self, event: Typed) -> None:
        """Hand an event on now, or as soon as those before it have taken effect."""
        if self._on_its_way is None:
            self._on_its_way = event
            await self._begin(event)
        else:
            self._held.append(event)

    def arrived(self, event: Typed) -> None:
        """An event has come up to the app, which has done what it stands for."""
        if event is self._on_its_way:
            self._follow(event)

    async def _begin(self, event: Typed) -> None:
        if not self._app.screen.is_mounted:  # just opened: it holds nothing yet that keys act on
            self._app.set_timer(_LOOK_AGAIN, partial(self._begin, event))
            return
        loop = asyncio.get_running_loop()
        self._limit = loop.call_later(_LONGEST_WAIT, self._app.call_later, self._end, event)
        lowest = self._app.focused or self._app.screen
        self._way = [lowest, *lowest.ancestors]
        await self._hand_on(event)
        if not (event.is_forwarded and lowest.call_later(self._passed_lowest, event)):
            self._follow(event)

    def _passed_lowest(self, event: Typed) -> None:
        if event._stop_propagation and event is self._on_its_way:
            self._follow(event)

    def _follow(self, event: Typed) -> None:
        """Wait for what the event has told widgets, the app, and a screen it has opened."""
        way = iter([*self._way, self._app.screen, self._app])
        _behind(way, lambda: self._end(event))

    def _end(self, event: Typed) -> None:
        if event is not self._on_its_way:
            return
        if self._limit is not None:
            self._limit.cancel()
        self._on_its_way = self._held.popleft() if self._held else None
        if self._on_its_way is not None:
            self._app.call_later(self._begin, self._on_its_way)


def _behind(pumps: Iterator[MessagePump], then: Callable[[], None]) -> None:
    """Do something when each pump in turn has come through all that it holds now."""
    for pump in pumps:
        if pump.message_queue_size and pump.call_later(_behind, pumps, then):
            return
    then()
