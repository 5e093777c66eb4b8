"""Tell a person or a machine how far a job is: lines on stderr, at most four a second."""

import json
import sys
import time
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Step:
    """One report."""

    phase: str
    done: int
    total: int
    """What `done` will be at the end."""
    unit: str
    per_second: float
    eta_seconds: float | None
    """None until there is a rate."""


class Progress:
    """Reports of one job. `as_json` writes one object a line, else a line a person reads."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self._is_terminal = sys.stderr.isatty()
        self._phase = ""
        self._began = self._last = 0.0
        self._first = self._done = 0
        self._open_line = False

    def say(self, message: str) -> None:
        """A remark of its own."""
        if self.as_json:
            self._write(json.dumps({"message": message}) + "\n")
        else:
            self._end_line()
            self._write(message + "\n")

    def step(self, phase: str, done: int, total: int, unit: str) -> None:
        """So much of a phase is done; rate and ETA count from the phase's first report, or from
        where it began once more."""
        now = time.monotonic()
        is_new = phase != self._phase or done < self._done
        self._done = done
        if is_new:
            self._end_line()
            self._phase, self._began, self._first, self._last = phase, now, done, 0.0
        due = 0.25 if self._is_terminal or self.as_json else 10.0
        if now - self._last < due and done < total:
            return
        self._last = now
        elapsed = now - self._began
        rate = (done - self._first) / elapsed if elapsed > 0 else 0.0
        eta = (total - done) / rate if rate > 0 else None
        self._show(Step(phase, done, total, unit, rate, eta))

    def preview(self, text: str) -> None:
        """Text that is being written; shown by what has a place for it, which this has not."""

    def close(self) -> None:
        """End the last line."""
        self._end_line()

    def _show(self, step: Step) -> None:
        if self.as_json:
            self._write(json.dumps(asdict(step)) + "\n")
            return
        share = 100 * step.done / step.total if step.total else 100.0
        line = f"{step.phase}  {step.done:,}/{step.total:,} {step.unit}  {share:.0f} %"
        if step.per_second:
            line += f"  {step.per_second:,.0f} {step.unit}/s"
        if step.eta_seconds is not None and step.done < step.total:
            line += f"  {duration(step.eta_seconds)} to go"
        if self._is_terminal:
            self._write(f"\r\x1b[2K{line}")
            self._open_line = True
        else:
            self._write(line + "\n")

    def _end_line(self) -> None:
        if self._open_line:
            self._write("\n")
            self._open_line = False

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def duration(seconds: float) -> str:
    """Seconds as a person says them: 0:42, 3:07, 2:15:00."""
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
