"""How the program ends where the user has not asked for it: signals, and a terminal that goes."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from textual.app import App

_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
_GRACE = 3.0
"""Seconds that an end may take that a signal asked for."""
_LOOK_AFTER = 1.0
"""Seconds between two looks whether the terminal is still there."""


def end_when_told(app: App[Any], stop: Callable[[], None]) -> None:
    """End the app, which runs, in order and with the status by which shells tell a signal; `stop`
    stops its work. A signal that is ignored, as SIGHUP under nohup, stays so."""

    def end(kind: signal.Signals) -> None:
        stop()
        # what is written to a terminal that has gone is waited for, and may be for ever
        late = threading.Timer(_GRACE, os._exit, [128 + kind])
        late.daemon = True
        late.start()
        app.exit(return_code=128 + kind)

    def look() -> None:
        """A terminal that goes sends SIGHUP, but under nohup that is not heard, and what is read
        from it is nothing, at once, for ever."""
        if not _has_terminal():
            stop()
            os._exit(128 + signal.SIGHUP)

    if not app.is_headless:
        loop = asyncio.get_running_loop()
        for kind in _ENDING:
            if signal.getsignal(kind) != signal.SIG_IGN:
                loop.add_signal_handler(kind, end, kind)
    if _has_terminal():
        app.set_interval(_LOOK_AFTER, look)


def _has_terminal() -> bool:
    return sys.__stdin__ is not None and sys.__stdin__.isatty()
