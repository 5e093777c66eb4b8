"""What the worker has been asked to do: the list behind the Jobs view, each to be cancelled."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from textual.dom import DOMNode

from energylens.coherence import check
from energylens.errors import EnergyLensError
from energylens.protocol import ProgressReport
from energylens.queries.display import clock
from energylens.tui.notices import notify
from energylens.tui.worker import Calls, WorkerClient, WorkerError
from energylens.wire import decode, encode

START = "open"
"""The method that only loads a model."""
JobState = Literal["running", "done", "failed", "cancelled"]
Result = TypeVar("Result")
_INCOHERENT = (ArithmeticError, LookupError, TypeError, ValueError)
"""What a screen runs into where the parts of an answer fit together, but its numbers are none."""


@dataclass
class Job:
    """One request and how far it is."""

    number: int
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


class Jobs:
    """One of it for an app."""

    def __init__(self, client: WorkerClient, store: str) -> None:
        """`store` is the store's path as the worker sees it."""
        self._client, self._store = client, store
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

    def told(self, job: Job) -> str:
        """What a job does, or what it waits for: the worker does one thing at a time."""
        first = next(iter(self.running), job)
        if job.report is None and first is not job:
            return f"after: {first.title} {first.now}"
        return job.now

    def cancel(self, job: Job | None) -> None:
        """Stop a job that runs."""
        if job is not None and job.state == "running":
            self._client.cancel(job.number)

    @property
    def running(self) -> list[Job]:
        """Jobs that are not at their end."""
        return [job for job in self.listed if job.state == "running"]

    def close(self) -> None:
        """Stop the worker."""
        self._client.close()

    def _end(self, job: Job, state: JobState, message: str) -> None:
        job.state, job.ended = state, time.monotonic()
        if message:
            job.log.append(message)
