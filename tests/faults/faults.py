"""What can happen to a command: a death, a signal, a full disk, others who do the same, readers."""

import os
import random
import resource
import signal
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CALLS = ("rename", "replace", "fsync", "mkdir", "unlink", "rmdir", "link")
LIMITS = (0, 1, 40, 300, 1_000, 3_000, 6_000, 10_000, 20_000, 60_000, 300_000)
"""Bytes a file may grow to."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DEAD, REFUSED, BUSY, STOPPED, WRONG = 9, 10, 11, 12, 13
"""Exit codes of a child, beside 0 and what the kernel gives."""
ENDED, KILLED, TOLD = {0}, {0, DEAD, -signal.SIGKILL}, {0, STOPPED}


@dataclass(frozen=True)
class Fault:
    """One thing that happens to a command."""

    kind: str
    allowed: frozenset[int]
    """How its processes may end."""
    arm: Callable[[], None] = lambda: None
    """Is called in the process before the command."""
    writers: int = 1
    readers: int = 0
    number: int = 0
    """Of the signal that it is sent; 0 for none."""
    moment: float = 0.0
    """When, as a share of how long the command takes."""
    pages: int | None = None
    """Of 4 KiB that the disk has left; None for enough."""
    is_read_only: bool = False
    """The disk cannot be written to at all."""


def faults_of(n_places: int, n_pages: int, by_chance: int, by: random.Random) -> Iterator[Fault]:
    """Every fault at every place, and so many of each kind that has no places.

    `n_places` are those before and after the calls that change the disk, `n_pages` what a command
    makes the disk grow by; 0 where a small disk cannot be had.
    """
    for place in range(1, n_places + 1):
        told = SIGNALS[place % len(SIGNALS)]
        yield Fault("killed at a call", frozenset(KILLED), on_call(place, _die))
        yield Fault("stopped at a call", frozenset(TOLD), on_call(place, _told(told)))
        yield Fault("disk full at a call", frozenset({0, REFUSED}), on_call(place, _fill))
    for n_bytes in LIMITS:
        yield Fault("file limit", frozenset({0, REFUSED}), limited(n_bytes))
    if n_pages:
        yield Fault("read-only disk", frozenset({REFUSED}), is_read_only=True)
    for pages in range(n_pages):
        yield Fault("disk full at a page", frozenset({0, REFUSED}), pages=pages)
    for _ in range(by_chance):
        at = by.random()
        yield Fault("killed", frozenset(KILLED), number=signal.SIGKILL, moment=at)
        yield Fault("stopped", frozenset(TOLD), number=by.choice(SIGNALS), moment=at)
        yield Fault("two writers", frozenset({0, BUSY, REFUSED}), writers=2)
        yield Fault("three writers", frozenset({0, BUSY, REFUSED}), writers=3)
        yield Fault("read meanwhile", frozenset({0}), readers=2)
        yield Fault(
            "read while killed", frozenset(KILLED), readers=1, number=signal.SIGKILL, moment=at
        )


def on_call(place: int, happens: Callable[[], Any]) -> Callable[[], None]:
    """At a place, counted from 1: each call has one before it and one after it."""

    def look(now: int) -> None:
        if now == place:
            happens()

    return _at_calls(look)


def count_calls(report: Path) -> Callable[[], None]:
    """No fault: write down how many places there are."""
    return _at_calls(lambda now: report.write_text(str(now)))


def _at_calls(look: Callable[[int], Any]) -> Callable[[], None]:
    def arm() -> None:
        seen = 0

        def wrapped(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal seen
                seen += 2
                now = seen
                look(now - 1)
                result = real(*arguments, **options)
                look(now)
                return result

            return call

        for name in CALLS:
            setattr(os, name, wrapped(getattr(os, name)))

    return arm


def limited(n_bytes: int) -> Callable[[], None]:
    """The kernel refuses to let any file grow beyond this; what is said must go elsewhere."""

    def arm() -> None:
        for descriptor in (1, 2):
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))

    return arm


def _die() -> None:
    os._exit(DEAD)


def _told(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def _fill() -> None:
    raise OSError(28, "No space left on device")
