"""Jobs: what the worker has been asked, how far it is, and its log."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from queries.display import visible
from tui.jobs import Job
from tui.screens.base import LensScreen
from tui.sources import string_rows
from tui.widgets.key_bar import KeyBar
from tui.widgets.status_bar import StatusBar
from tui.widgets.view_bar import ViewBar
from tui.widgets.virtual_table import TableColumn, VirtualTable

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


class JobsScreen(LensScreen):
    """A table of jobs over the log of one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "cancel", "Cancel", id="jobs.cancel", tooltip="Stop the job"),
    ]
    HELP = """# Jobs

What the worker was asked: prompts, interventions, steering, recomputation. **x** stops the job
under the cursor; what it has finished stays. The worker is a process of its own: the program stays
usable while it works, and it is started again if it dies.
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
        self._look(first=True)

    def on_screen_resume(self) -> None:
        self._look(first=True)

    def _look(self, first: bool = False) -> None:
        jobs = self.workspace.jobs
        if not (first or jobs.running or self._was_running):
            return
        self._was_running = bool(jobs.running)
        table = self.query_one("#jobs", VirtualTable)
        row = table.cursor_row
        rows = [_row(job) for job in reversed(jobs.listed)]
        table.show(string_rows(rows, [c.name for c in _COLUMNS]))
        table.move_to(row)
        self._log()
        status = self.query_one(StatusBar)
        if not jobs.listed:
            status.say("no jobs yet: p runs a text, a on a feature ablates it, r recomputes")
        else:
            status.say(f"{len(jobs.running)} running", f"{len(jobs.listed)} in all")

    _was_running = False

    @on(VirtualTable.Moved)
    def _log(self) -> None:
        job = self._job()
        text = "" if job is None else "\n".join(visible(line) for line in job.log[-6:])
        self.query_one("#job-log", Static).update(text)

    def _job(self) -> Job | None:
        listed = self.workspace.jobs.listed
        row = self.query_one("#jobs", VirtualTable).cursor_row
        return listed[len(listed) - 1 - row] if 0 <= row < len(listed) else None

    def action_cancel(self) -> None:
        """Stop the job under the cursor."""
        job = self._job()
        if job is None or job.state != "running":
            self.notify("no job runs under the cursor", markup=False)
        else:
            self.workspace.jobs.cancel(job)


def _row(job: Job) -> tuple[str, ...]:
    report = job.report
    counts = report is not None and report.total and job.state == "running"
    share = f"{100 * report.done / report.total:.0f} %" if report and counts else ""
    rate = f"{report.done / job.seconds:,.1f} {report.unit}/s" if report and job.seconds else ""
    return (
        str(job.number),
        visible(job.title),
        job.state,
        report.phase if report else "",
        share,
        rate,
        clock(job.seconds),
        "" if job.eta is None else clock(job.eta),
    )


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds; tenths below ten."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
