"""The worker as the screens see it: a process, here or over ssh, that answers lines with lines.

It is started with the first request and started again after it died. Callbacks come from the thread
that reads its answers. A line that cannot be read ends what it may have answered, with the reason;
the worker and its other answers stay.
"""

import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from energylens.errors import EnergyLensError
from energylens.protocol import ProgressReport
from energylens.queries.display import size
from energylens.rpc import request
from energylens.tui.answers import MOST_BYTES, Refusal, Report, Result, read_line
from energylens.wire import encode

_GRACE = 5.0
"""Seconds a worker may live on after it has closed its output."""


class WorkerError(EnergyLensError):
    """The worker refused a request, or is gone."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Calls:
    """Who hears of a request."""

    answer: Callable[[Any], None]
    """The parsed result."""
    failed: Callable[[WorkerError], None]
    progress: Callable[[ProgressReport], None]


class WorkerClient:
    """One worker process at a time."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._link: _Link | None = None
        self._waiting: dict[int, _Asked] = {}
        self._last = 0
        self._lock = threading.Lock()
        self._is_closed = False

    def ask(self, method: str, params: dict[str, Any], calls: Calls) -> int:
        """Send a request; its number.

        Raises:
            WorkerError: the worker cannot be started.
        """
        with self._lock:
            try:
                link = self._living()
            except OSError as error:
                raise WorkerError(
                    "Gone",
                    f"the worker cannot be started with '{' '.join(self._command)}': {error}",
                ) from error
            self._last += 1
            self._waiting[self._last] = _Asked(calls, link)
            link.send(request(self._last, method, params))
            return self._last

    def cancel(self, number: int) -> None:
        """Ask the worker to stop a request; it answers that it was cancelled."""
        with self._lock:
            asked = self._waiting.get(number)
            if asked is not None:
                self._last += 1
                asked.link.send(request(self._last, "cancel", {"id": number}))

    @property
    def command(self) -> list[str]:
        """What starts a worker."""
        return list(self._command)

    def rest(self) -> None:
        """Stop a worker that has nothing to do, and with it what it holds."""
        with self._lock:
            link = self._link if not self._waiting else None
            self._link = None if link is not None else self._link
        if link is not None:
            link.process.kill()
            link.process.wait()

    def close(self) -> None:
        """Stop the worker, whatever it does."""
        with self._lock:
            self._is_closed, link = True, self._link
        if link is not None:
            link.process.kill()
            link.process.wait()

    def _living(self) -> "_Link":
        if self._link is None or self._link.process.poll() is not None:
            self._link = _Link(self._command, self._hear, self._gone)
        return self._link

    def _gone(self, link: "_Link", status: int) -> None:
        said = f"the worker stopped (status {status}); the next request starts it again"
        self._fail_all(link, WorkerError("Gone", said))

    def _fail_all(self, link: "_Link", error: WorkerError) -> None:
        """End every request that a worker has been sent."""
        with self._lock:
            lost = {n: asked for n, asked in self._waiting.items() if asked.link is link}
            for number in lost:
                del self._waiting[number]
        for asked in lost.values():
            if not self._is_closed:
                asked.calls.failed(error)

    def _hear(self, link: "_Link", line: bytes) -> None:
        with self._lock:
            last = self._last
        if len(line) > MOST_BYTES:
            said = f"the worker sent a line of more than {size(MOST_BYTES)}"
            self._fail_all(link, WorkerError("Unreadable", said))
            return
        found = read_line(line, last)
        if isinstance(found, Refusal) and found.number is None:
            self._fail_all(link, WorkerError(found.kind, found.message))
        elif found is not None and found.number is not None:
            self._pass_on(found.number, found)

    def _pass_on(self, number: int, found: Result | Refusal | Report) -> None:
        with self._lock:
            asked = self._waiting.get(number)
            if not isinstance(found, Report):
                self._waiting.pop(number, None)
        if asked is None or self._is_closed:
            return
        if isinstance(found, Report):
            asked.calls.progress(found.progress)
        elif isinstance(found, Refusal):
            asked.calls.failed(WorkerError(found.kind, found.message))
        else:
            asked.calls.answer(found.value)


@dataclass(frozen=True)
class _Asked:
    """A request on its way, and the process it was sent to."""

    calls: Calls
    link: "_Link"


class _Link:
    """A process with a thread that reads its lines and one that writes to it, so that nobody waits
    for a worker that takes in nothing."""

    def __init__(
        self,
        command: Sequence[str],
        heard: Callable[["_Link", bytes], None],
        gone: Callable[["_Link", int], None],
    ) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # ctrl+c is for the screen, not for the worker
        )
        self._heard, self._gone = heard, gone
        self._outgoing: SimpleQueue[bytes | None] = SimpleQueue()
        for work in (self._read, self._write):
            threading.Thread(target=work, daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        """Send a line, as soon as the process takes it."""
        self._outgoing.put(encode(message).encode("utf-8", "replace") + b"\n")

    def _write(self) -> None:
        pipe = self.process.stdin
        assert pipe is not None, "asked for"
        while (line := self._outgoing.get()) is not None:
            with suppress(OSError):  # who waits for an answer hears that it is gone
                pipe.write(line)
                pipe.flush()
        with suppress(OSError):
            pipe.close()

    def _read(self) -> None:
        pipe = self.process.stdout
        assert pipe is not None, "asked for"
        while line := pipe.readline(MOST_BYTES + 1):
            self._heard(self, line)
            while len(line) > MOST_BYTES and not line.endswith(b"\n"):
                line = pipe.readline(MOST_BYTES)
        pipe.close()
        self._outgoing.put(None)
        self._gone(self, self._end())

    def _end(self) -> int:
        """Its status; one that says nothing any more is stopped."""
        try:
            return self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
