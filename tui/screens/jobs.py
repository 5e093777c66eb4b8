"""Jobs: what the worker has been asked, how far it is, and its log."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from energylens.db.progress import Writing, writings
from energylens.queries.display import clock, visible
from energylens.tui.jobs import Job
from energylens.tui.kinds.base import LensScreen
from energylens.tui.modals.ask_line import AskLine
from energylens.tui.modals.training import TrainingCurves
from energylens.tui.sources import string_rows
from energylens.tui.widgets.key_bar import KeyBar
from energylens.tui.widgets.status_bar import StatusBar
from energylens.tui.widgets.view_bar import ViewBar
from energylens.tui.widgets.virtual_table import TableColumn, VirtualTable

_COLUMNS = (
    TableColumn("number", "job", 4, right=True),
    TableColumn("title", "what", 34),
    TableColumn("state", "state", 9),
    TableColumn("phase", "phase", 16),
    TableColumn("share", "done", 5, right=True),
    TableColumn("rate", "rate", 14, right=True),
    TableColumn("seconds", "time", 7, right=True),
    TableColumn("eta", "to go", 7, right=True),
)
_EVERY = 0.5
"""Seconds between looks at jobs that run."""
_EVERY_WRITING = 2.0
"""Seconds between looks at what other processes write."""


class JobsScreen(LensScreen):
    """A table of jobs over the log of one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "cancel", "Cancel", id="jobs.cancel", tooltip="Stop the job"),
        Binding("t", "training", "Training", id="jobs.training", tooltip="Curves of a training"),
    ]
    HELP = """# Jobs

What the worker was asked: prompts, interventions, steering, recomputation, indexing. **x** stops
the job under the cursor; what it has finished stays. The worker is a process of its own: the
program stays usable while it works, and it is started again if it dies. What is computed into the
store (**r**, an index) is a job with a dot for its number: it has a process of its own, one of a
store works at a time, and it goes on when the program is closed if it is told to. The next start
shows it, a dead one as dead. Below stand ingests and
indexes that other processes of this machine write into the store; those are stopped where they run,
and **R** reads in what they have finished. **t** shows the curves of a training of SAEs, from the
directory that `energylens train sae` writes into, also while it trains.
"""

    def compose(self) -> ComposeResult:
        yield ViewBar("jobs")
        yield VirtualTable(_COLUMNS, id="jobs")
        yield Static("", id="job-log", markup=False)
        yield StatusBar(id="status")
        yield KeyBar()

    def on_mount(self) -> None:
        self.query_one("#jobs").focus()
        self.set_interval(_EVERY, self._look)
        self.set_interval(_EVERY_WRITING, self._look_at_disk)
        self._look(first=True)

    def on_screen_resume(self) -> None:
        self._look(first=True)
        self._look_at_disk()

    def _look_at_disk(self) -> None:
        if self.is_current:
            path = self.workspace.store.path
            self.workspace.tasks.ask(self, "disk", lambda _: writings(path), self._written)

    def _written(self, found: list[Writing]) -> None:
        if found != self._writings:
            self._writings = found
            self._look(first=True)

    def _look(self, first: bool = False) -> None:
        jobs = self.workspace.jobs
        seen = [(job.title, job.state) for job in jobs.listed]
        if not (first or jobs.running or seen != self._seen):
            return
        self._seen = seen
        table = self.query_one("#jobs", VirtualTable)
        row = table.cursor_row
        rows = [_row(job) for job in reversed(jobs.listed)]
        rows += [_row_of_writing(writing) for writing in self._writings]
        table.show(string_rows(rows, [c.name for c in _COLUMNS]))
        table.move_to(row)
        self._log()
        if not rows:
            self.say("no jobs yet: p runs a text, a on a feature ablates it, r recomputes")
        else:
            n = len(jobs.running) + sum(writing.is_running for writing in self._writings)
            self.say(f"{n} running", f"{len(rows)} in all")

    _seen: Sequence[tuple[str, str]] = ()
    _writings: Sequence[Writing] = ()

    @on(VirtualTable.Moved)
    def _log(self) -> None:
        job = self._job()
        lines = [_advice(self._writing())] if job is None else job.log[-6:]
        text = "\n".join(visible(line) for line in lines)
        self.query_one("#job-log", Static).update(text)

    def _job(self) -> Job | None:
        listed = self.workspace.jobs.listed
        row = self.query_one("#jobs", VirtualTable).cursor_row
        return listed[len(listed) - 1 - row] if 0 <= row < len(listed) else None

    def _writing(self) -> Writing | None:
        place = self.query_one("#jobs", VirtualTable).cursor_row - len(self.workspace.jobs.listed)
        return self._writings[place] if 0 <= place < len(self._writings) else None

    def action_cancel(self) -> None:
        """Stop the job under the cursor."""
        job = self._job()
        if self._writing() is not None:
            self.notify(
                "another process writes this: Ctrl-C in its terminal keeps what is finished",
                markup=False,
            )
            return
        if job is None or job.state != "running":
            self.notify("no job runs under the cursor", markup=False)
        elif job.host is not None:
            self.notify(f"it runs on {job.host} and is stopped there", markup=False)
        else:
            self.workspace.jobs.cancel(job)

    def action_training(self) -> None:
        """Ask for a training's directory, and show its curves."""

        def chosen(place: str | None) -> None:
            if place and place.strip():
                self._training = place.strip()
                self.app.push_screen(TrainingCurves(Path(place.strip()).expanduser()))

        self.app.push_screen(
            AskLine("a training's directory", self._training, "as given to energylens train sae"),
            chosen,
        )

    _training = ""
    """The directory that was asked for last."""


def _row(job: Job) -> tuple[str, ...]:
    report = job.report
    counts = report is not None and report.total and job.state == "running"
    share = f"{100 * report.done / report.total:.0f} %" if report and counts else ""
    rate = f"{report.done / job.seconds:,.1f} {report.unit}/s" if report and job.seconds else ""
    return (
        str(job.number or "·"),
        visible(f"{job.title} on {job.host}" if job.host else job.title),
        job.state,
        report.phase if report else "",
        share,
        rate,
        clock(job.seconds),
        "" if job.eta is None else clock(job.eta),
    )


def _row_of_writing(writing: Writing) -> tuple[str, ...]:
    seconds, rate, eta = writing.seconds, "", ""
    if seconds and writing.tokens:
        rate = f"{writing.tokens / seconds:,.0f} tokens/s"
    if seconds and writing.done and writing.is_running:
        eta = clock(seconds * (writing.total - writing.done) / writing.done)
    return (
        "",
        visible(f"{writing.what} {writing.run_id}"),
        "running" if writing.is_running else "stopped",
        f"{writing.done} of {writing.total} shards" if writing.total else "",
        f"{100 * writing.done / writing.total:.0f} %" if writing.total else "",
        rate,
        "" if seconds is None else clock(seconds),
        eta,
    )


def _advice(writing: Writing | None) -> str:
    """What can be done about something another process writes."""
    if writing is None:
        return ""
    if writing.is_running:
        return "written by another process; R shows what it has finished so far"
    return "stopped before its end: the same ingest command goes on with it"
