"""What the worker has been asked to do: the list behind the Jobs view, each to be cancelled.

What is computed into the store is a process of its own, which may go on when the program is closed
and is found again by the next one.
"""

import json
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from textual.dom import DOMNode

from energylens.coherence import check
from energylens.errors import EnergyLensError
from energylens.protocol import ProgressReport
from energylens.queries.display import clock
from energylens.tui.kept import Kept, folder_of, listed, start, stop
from energylens.tui.notices import notify
from energylens.tui.worker import Calls, WorkerClient, WorkerError
from energylens.wire import decode, encode

_PATIENCE, _BREATH = 12.0, 0.1
"""Seconds that jobs may take to stop, and between two looks."""
START = "open"
"""The method that only loads a model."""
JobState = Literal["running", "done", "failed", "cancelled", "dead"]
Result = TypeVar("Result")
_INCOHERENT = (ArithmeticError, LookupError, TypeError, ValueError)
"""What a screen runs into where the parts of an answer fit together, but its numbers are none."""


@dataclass
class Job:
    """One request and how far it is."""

    number: int
    """Of the worker's request; 0 where the job is a process of its own."""
    title: str
    method: str
    began: float
    state: JobState = "running"
    report: ProgressReport | None = None
    """The last one that counts something, or that begins a phase."""
    heard: float = 0.0
    """When it came."""
    ended: float | None = None
    log: list[str] = field(default_factory=list)
    kept: str | None = None
    """The name of its file, where it is a process of its own."""
    host: str | None = None
    """The machine that it runs on, where that is another one."""

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        return (time.monotonic() if self.ended is None else self.ended) - self.began

    @property
    def eta(self) -> float | None:
        """Seconds it will still take, if its reports say; None where they do not."""
        report = self.report
        if self.state == "running" and report is not None and report.seconds_left is not None:
            return max(0.0, report.seconds_left - (time.monotonic() - self.heard))
        if self.state != "running" or report is None or not 0 < report.done < report.total:
            return None
        return self.seconds * (report.total - report.done) / report.done

    @property
    def now(self) -> str:
        """What it does and how long it will still take, as far as that is known."""
        report, eta = self.report, self.eta
        if report is None or not report.phase:
            return ""
        counted = f" {report.done:,} of {report.total:,} {report.unit}" if report.total else ""
        left = (
            "" if eta is None else f", {clock(eta)} to go" if eta else ", longer than it took last"
        )
        return f"{report.phase}{counted}{left}"


def _then(seconds: float) -> float:
    """A time since 1970, on the clock that jobs are timed by."""
    return time.monotonic() - (time.time() - seconds)


def _take(job: Job, kept: Kept) -> None:
    """Take in what a job's file says."""
    job.state, job.log = kept.state, kept.log
    job.host = None if kept.host == socket.gethostname() else kept.host
    job.ended = None if kept.ended is None else _then(kept.ended)
    if kept.phase:
        job.heard = _then(kept.heard)
        job.report = ProgressReport(
            kept.phase, kept.done, kept.total, kept.unit, None, kept.seconds_left
        )


class Jobs:
    """One of it for an app."""

    def __init__(self, client: WorkerClient, store: str, path: Path) -> None:
        """`store` is the store's path as the worker sees it, `path` as this program does."""
        self._client, self._store = client, store
        self._folder = folder_of(path)
        self.listed: list[Job] = []
        """Newest last."""

    def ask(
        self,
        asker: DOMNode,
        title: str,
        method: str,
        run: str,
        request: object,
        kind: type[Result],
        answer: Callable[[Result], None],
        failed: Callable[[EnergyLensError], None] | None = None,
        progress: Callable[[ProgressReport], None] | None = None,
    ) -> Job | None:
        """Send a request; callbacks come on the asker's own message queue. None where there is no
        worker to be had, of which `failed` hears."""
        job = Job(0, title, method, time.monotonic())

        def tell(callback: Callable[[Any], None] | None, value: Any) -> None:
            if callback is not None and asker.is_running:
                asker.call_later(shown, callback, value)

        def shown(callback: Callable[[Any], None], value: Any) -> None:
            try:
                callback(value)
            except _INCOHERENT as error:
                notify(asker)(
                    EnergyLensError(f"the worker's answer does not fit together: {error}")
                )

        def refused(error: EnergyLensError) -> None:
            if isinstance(error, WorkerError) and error.kind == "Cancelled":
                self._end(job, "cancelled", str(error))
            else:
                self._end(job, "failed", str(error))
                tell(failed or notify(asker), error)

        def answered(raw: Any) -> None:
            try:
                found = decode(kind, raw)
                check(found)
            except EnergyLensError as error:
                refused(error)
                return
            self._end(job, "done", "")
            tell(answer, found)

        def heard(report: ProgressReport) -> None:
            if report.message and report.phase != "preview":
                job.log.append(report.message)
            elif report.phase != "preview":
                job.report, job.heard = report, time.monotonic()
            tell(progress, report)

        params = {"store": self._store, "run": run, "request": json.loads(encode(request))}
        try:
            job.number = self._client.ask(method, params, Calls(answered, refused, heard))
        except WorkerError as error:
            tell(failed or notify(asker), error)
            return None
        self.listed.append(job)
        return job

    def begin(self, asker: DOMNode, run: str) -> Job | None:
        """Have the worker load a run's model before it is asked for anything."""
        return self.ask(
            asker, "start the worker", START, run, {}, dict, lambda _: None, lambda _: None
        )

    def keep(self, title: str, method: str, run: str, request: object) -> None:
        """Begin a job that goes on when the program is closed.

        Raises:
            EnergyLensError: no process can be started, or nothing can be kept of it.
        """
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
        asked = Kept(
            name, title, self._client.command, self._store, run, method,
            json.loads(encode(request)), time.time(), socket.gethostname(),
        )  # fmt: skip
        try:
            start(self._folder, asked)
        except OSError as error:
            raise EnergyLensError(
                f"no job can be started: {error}; jobs are told of in '{self._folder}'"
            ) from error
        self._client.rest()  # two models might be too many
        self.find()

    def find(self) -> list[Job]:
        """Read how far the jobs are that are processes of their own; those that have ended since
        the last look."""
        known = {job.kept: job for job in self.listed if job.kept is not None}
        ended = []
        for kept in listed(self._folder):
            job = known.get(kept.name)
            if job is None:
                job = Job(0, kept.title, kept.method, _then(kept.began), kept=kept.name)
                self.listed.append(job)
            was_running = job.state == "running"
            _take(job, kept)
            if was_running and kept.name in known and job.state != "running":
                ended.append(job)
        return ended

    def told(self, job: Job) -> str:
        """What a job does, or what it waits for: the worker does one thing at a time."""
        first = next((one for one in self.running if one.kept is None), job)
        if job.report is None and first is not job:
            return first.now if first.method == START else f"after {first.title}: {first.now}"
        return job.now

    def cancel(self, job: Job | None) -> None:
        """Stop a job that runs."""
        if job is None or job.state != "running":
            return
        if job.kept is None:
            self._client.cancel(job.number)
        else:
            stop(self._folder, job.kept)

    @property
    def staying(self) -> list[Job]:
        """Jobs that run on when the program is closed."""
        return [job for job in self.running if job.kept is not None]

    @property
    def running(self) -> list[Job]:
        """Jobs that are not at their end."""
        return [job for job in self.listed if job.state == "running"]

    def close(self) -> None:
        """Stop the worker."""
        self._client.close()

    def end_staying(self) -> None:
        """Stop them, and wait until they have; one that does not hear is left to itself."""
        until = time.monotonic() + _PATIENCE
        for job in self.staying:
            self.cancel(job)
        while self.staying and time.monotonic() < until:
            time.sleep(_BREATH)
            self.find()

    def _end(self, job: Job, state: JobState, message: str) -> None:
        job.state, job.ended = state, time.monotonic()
        if message:
            job.log.append(message)
