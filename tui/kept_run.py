"""The process of a job that is kept: it has a worker do one request, and tells how far that is.

    python -m energylens.tui.kept_run FILE

A signal to end is passed on to the worker, which keeps what is finished; one that does not end
within a few seconds is ended.
"""

import fcntl
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from energylens.protocol import ProgressReport
from energylens.tui.kept import Kept, State, read, turn, write
from energylens.tui.worker import Calls, WorkerClient, WorkerError

_EVERY = 0.25
"""Seconds between two looks, and at least between two writes of the file."""
_GRACE = 10.0
"""Seconds that a worker has to stop in."""
_MOST_LINES = 50
_WAITING = "waits for another"


class _Job:
    """One request, and its file."""

    def __init__(self, file: Path, kept: Kept) -> None:
        self._file, self._kept = file, replace(kept, process=os.getpid())
        self._is_told, self._lock = False, threading.Lock()
        self.is_stopped = False
        self.ended = threading.Event()

    def tell(self) -> None:
        """Write what has changed since the last time; where the file was taken away nobody knows of
        the job any more, and it ends."""
        self.is_stopped = self.is_stopped or not self._file.exists()
        with self._lock:
            kept, is_told, self._is_told = self._kept, self._is_told, True
        if not is_told:
            with suppress(OSError):  # a full disk stops no job
                write(self._file, kept)

    def end(self, state: State, message: str) -> None:
        """The request is done with."""
        log = [*self._kept.log, message] if message else self._kept.log
        self._change(state=state, log=log, ended=time.time())
        self.ended.set()

    def hear(self, report: ProgressReport) -> None:
        """The worker tells how far it is."""
        if report.message:
            self._change(log=[*self._kept.log, report.message][-_MOST_LINES:])
        else:
            self._change(
                phase=report.phase,
                done=report.done,
                total=report.total,
                unit=report.unit,
                seconds_left=report.seconds_left,
                heard=time.time(),
            )

    def failed(self, error: WorkerError) -> None:
        self.end("cancelled" if error.kind == "Cancelled" else "failed", str(error))

    def answered(self, found: Any) -> None:
        said = found.get("message") if isinstance(found, dict) else None
        self.end("done", said if isinstance(said, str) else "")

    def run(self) -> None:
        """Wait for a turn, and have the request done."""
        with turn(self._file.parent) as lock:
            while not self.is_stopped and not _has_turn(lock):
                if self._kept.phase != _WAITING:
                    self.hear(ProgressReport(_WAITING, 0, 0, ""))
                self.tell()
                time.sleep(_EVERY)
            self.hear(ProgressReport("starting", 0, 0, ""))
            if self.is_stopped:
                self.end("cancelled", "stopped before its turn")
            else:
                self._ask()
            self.tell()

    def _ask(self) -> None:
        kept = self._kept
        client = WorkerClient(kept.command)
        params = {"store": kept.store, "run": kept.run, "request": kept.request}
        try:
            number = client.ask(kept.method, params, Calls(self.answered, self.failed, self.hear))
        except WorkerError as error:
            self.failed(error)
            return
        until = None
        while not self.ended.wait(_EVERY):
            self.tell()
            if self.is_stopped and until is None:
                until = time.monotonic() + _GRACE
                client.cancel(number)
            elif until is not None and time.monotonic() > until:
                self.end("cancelled", "the worker did not stop and was ended")
        client.close()

    def _change(self, **changes: Any) -> None:
        with self._lock:
            self._kept, self._is_told = replace(self._kept, **changes), False


def _has_turn(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main(file: Path) -> None:
    """Do the job of a file."""
    kept = read(file)
    if kept is None or kept.state != "running":
        sys.exit(f"'{file}' holds no job to be done")
    job = _Job(file, kept)

    def stop(number: int, frame: object) -> None:
        job.is_stopped = True

    for kind in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(kind, stop)
    job.tell()
    job.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
