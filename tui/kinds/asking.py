"""Screens that ask the worker, and tell how far it is until it answers."""

from collections.abc import Callable
from typing import TypeVar

from energylens.errors import EnergyLensError
from energylens.protocol import ProgressReport
from energylens.tui.jobs import START, Job
from energylens.tui.kinds.base import LensScreen

Result = TypeVar("Result")
_EVERY = 0.5
"""Seconds between two looks at a job."""


class AskingScreen(LensScreen):
    """Asks for one thing at a time: a newer request stops the older one."""

    job: Job | None = None
    """What was asked for last."""
    _doing = ""

    def ask_worker(
        self,
        doing: str,
        title: str,
        method: str,
        run: str,
        request: object,
        kind: type[Result],
        answer: Callable[[Result], None],
        progress: Callable[[ProgressReport], None] | None = None,
    ) -> None:
        """Send a request; `doing` is what the status line says meanwhile."""
        jobs = self.workspace.jobs
        if self.job is not None and self.job.method != START:
            jobs.cancel(self.job)
        self.watch_job(
            doing,
            jobs.ask(self, title, method, run, request, kind, answer, self.failed, progress),
        )

    def start_worker(self, run: str, doing: str) -> None:
        """Have the worker load a model while what to ask it is thought of."""
        self.watch_job(doing, self.workspace.jobs.begin(self, run))

    def watch_job(self, doing: str, job: Job | None) -> None:
        """Tell how far a job is until it ends, or until another one is watched."""
        self.job, self._doing = job, doing
        if job is None:  # there is no worker, which has been told
            return
        self.tell_job(doing, job)
        timer = self.set_interval(_EVERY, lambda: look())

        def look() -> None:
            if self.job is job and job.state == "running":
                self.tell_job(doing, job)
            else:
                timer.stop()
                if self.job is job and job.method == START:
                    self.say(doing)

    def tell_job(self, doing: str, job: Job) -> None:
        """Say what is under way."""
        self.say(doing, self.workspace.jobs.told(job))

    def failed(self, error: EnergyLensError) -> None:
        """Say why there is no answer."""
        self.say(str(error))

    def action_cancel(self) -> None:
        """Stop what was asked for."""
        self.workspace.jobs.cancel(self.job)
