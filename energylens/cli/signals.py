"""Ctrl-C, SIGTERM and SIGHUP end a command in one way: what runs is left by an exception, so that
everything is put in order, and the exit code tells which it was."""

import signal

KINDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_received: list[int] = []


def listen() -> None:
    """Take over the signals that nobody handles yet; one that is ignored, as under nohup, stays
    so."""
    for kind in KINDS:
        if signal.getsignal(kind) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(kind, _stop)


def exit_code() -> int | None:
    """128 and the number of the last signal, as shells count; None where there was none.

    It is to be asked whatever the error is that ends a command: a library may have turned the
    KeyboardInterrupt into one of its own, as DuckDB does.
    """
    return 128 + _received[-1] if _received else None


def _stop(number: int, frame: object) -> None:
    _received.append(number)
    raise KeyboardInterrupt
