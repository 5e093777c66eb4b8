"""Ctrl-C and SIGTERM as a question a loop asks between its steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Within the block the first signal is only noted, and what is yielded says so; a second one
    acts as ever. Outside the main thread, which gets no signals, it is never so."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    seen: list[int] = []
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.getsignal(kind) for kind in kinds}

    def restore() -> None:
        for kind, handler in before.items():
            signal.signal(kind, handler)

    def note(number: int, frame: object) -> None:
        seen.append(number)
        restore()

    for kind in kinds:
        signal.signal(kind, note)
    try:
        yield lambda: bool(seen)
    finally:
        restore()
