"""What a training of SAEs says: lines or a table that is drawn anew, objects for machines, and rows
of `metrics.parquet`."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from energylens.cli.terminal import Terminal
from energylens.errors import TrainingError
from energylens.ingest.progress import Progress, duration
from energylens.queries.writing import whole_file

if TYPE_CHECKING:
    from energylens.training.saes.loop import Report
    from energylens.training.saes.trainee import Figures

SCHEMA = {
    "step": pl.Int64,
    "n_tokens": pl.Int64,
    "sae": pl.String,
    "metric": pl.String,
    "value": pl.Float64,
}
_LIVE_SECONDS = 0.5
_MOVE_IT = (
    "move it away and repeat the command: the training goes on from its checkpoint, without the "
    "figures of the steps before"
)


class SaeTrainingLog:
    """A Watch of the training: says every `seconds` how it goes and keeps what is recorded.

    A training that goes on keeps the rows of the steps before it.
    """

    def __init__(self, metrics: Path, begin: Callable[[], None], as_json: bool, seconds: float):
        """`begin` is called once nothing stands against the training."""
        self._path, self._begin, self._as_json = metrics, begin, as_json
        is_live = isinstance(sys.stderr, Terminal) and not as_json
        self._every = _LIVE_SECONDS if is_live else seconds
        self._last = 0.0
        self._rows: pl.DataFrame | None = None
        self._lines: list[str] = []
        """Of the table that is drawn anew; none before the first step."""
        self._progress = Progress(as_json)

    def say(self, message: str) -> None:
        """A remark of its own."""
        self._progress.say(message)

    def begin(self) -> None:
        """The SAEs are made."""
        self._begin()

    def phase(self, name: str, done: int, total: int, unit: str) -> None:
        """How far something is that goes before a step."""
        if not self._lines or not isinstance(sys.stderr, Terminal):
            self._progress.step(name, done, total, unit)
        elif self._is_due():
            sys.stderr.draw([*self._lines, f"  {name}  {done:,}/{total:,} {unit}"])

    def step(self, report: "Callable[[], Report]") -> None:
        """Say how it goes, where it is time."""
        if self._is_due():
            self._show(report())

    def record(self, report: "Report") -> None:
        """Keep the figures.

        Raises:
            TrainingError: they cannot be written.
        """
        if report.step == report.n_steps:
            self._show(report)
        found = [
            (report.step, report.n_tokens, figures.name, metric, value)
            for figures in report.figures
            for metric, value in _metrics(figures, report)
        ]
        try:
            rows = self._before(report.step) if self._rows is None else self._rows
            self._rows = pl.concat([rows, pl.DataFrame(found, schema=SCHEMA, orient="row")])
            with whole_file(self._path) as partial:
                self._rows.write_parquet(partial)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise TrainingError(
                f"cannot write '{self._path}': {error}; make room, and repeat the command"
            ) from error

    def close(self) -> None:
        """End the last line."""
        self._progress.close()

    def _is_due(self) -> bool:
        now = time.monotonic()
        is_due = now - self._last >= self._every
        if is_due:
            self._last = now
        return is_due

    def _before(self, step: int) -> pl.DataFrame:
        if not self._path.exists():
            return pl.DataFrame(schema=SCHEMA)
        try:
            rows = pl.read_parquet(self._path, glob=False, hive_partitioning=False)
            if rows.schema != SCHEMA:
                raise TrainingError(
                    f"'{self._path}' has other columns than a training writes; {_MOVE_IT}"
                )
        except (OSError, pl.exceptions.PolarsError) as error:
            raise TrainingError(f"cannot read '{self._path}': {error}; {_MOVE_IT}") from error
        return rows.filter(pl.col("step") < step)

    def _show(self, report: "Report") -> None:
        if self._as_json:
            found = asdict(report) | {"seconds_to_go": report.seconds_to_go}
            sys.stderr.write(json.dumps(found) + "\n")
            return
        self._progress.close()
        share = 100 * report.step / report.n_steps
        head = (
            f"step {report.step:,}/{report.n_steps:,}  {share:.0f} %  "
            f"{report.tokens_per_second:,.0f} tokens/s  {duration(report.seconds_to_go)} to go"
        )
        lines = [head, *(_line(figures) for figures in report.figures)]
        if isinstance(sys.stderr, Terminal):
            self._lines = lines
            sys.stderr.draw(lines)
        else:
            sys.stderr.write("\n".join(lines) + "\n")


def _line(figures: "Figures") -> str:
    parts = ", ".join(f"{name} {value:.4g}" for name, value in figures.parts.items())
    return (
        f"  {figures.name}  fvu {figures.fvu:.4f}  L0 {figures.l0:.1f}  "
        f"dead {100 * figures.dead_share:.1f} %  loss {figures.loss:.4g} ({parts})"
    )


def _metrics(figures: "Figures", report: "Report") -> list[tuple[str, float]]:
    return [
        ("loss", figures.loss),
        *figures.parts.items(),
        ("l0", figures.l0),
        ("fvu", figures.fvu),
        ("dead_share", figures.dead_share),
        ("learning_rate", figures.learning_rate),
        ("tokens_per_second", report.tokens_per_second),
    ]
