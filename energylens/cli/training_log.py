"""What a training says on the terminal, and the same as rows of a Parquet file."""

from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import typer

from energylens.queries.writing import whole_file

if TYPE_CHECKING:
    from energylens.training.evaluation import Heldout
    from energylens.training.leaks import LeakCheck
    from energylens.training.loop import Progress

_SCHEMA = {
    "n_tokens": pl.Int64,
    "metric": pl.String,
    "layer": pl.Int32,
    "category": pl.String,
    "value": pl.Float64,
}


class TrainingLog:
    """Writes one row a metric: `n_tokens, metric, layer, category, value`.

    A training that goes on keeps the rows of the tokens it had read before. Without a path nothing
    is written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._rows = pl.DataFrame(schema=_SCHEMA)
        self._is_new = True

    def report(self, progress: "Progress") -> None:
        """How far the training is, and how well its routers are."""
        from energylens.ingest.progress import duration
        from energylens.training.mesanet import MesaNetProgress

        left = (progress.n_steps - progress.step) * progress.seconds_per_step
        line = (
            f"step {progress.step:,}/{progress.n_steps:,}  loss {progress.loss:.3f}  "
            f"{progress.tokens_per_second:,.0f} tokens/s  {duration(left)} to go"
        )
        found: list[tuple[str, int | None, float | None]] = [
            ("loss", None, progress.loss),
            ("learning_rate", None, progress.learning_rate),
            ("gradient_norm", None, progress.gradient_norm),
            ("tokens_per_second", None, progress.tokens_per_second),
        ]
        if isinstance(progress, MesaNetProgress) and progress.routers:
            worst = max(progress.routers, key=lambda r: r.max_vio)
            sure = [router.concentration for router in progress.routers]
            line += (
                f"  MaxVio {worst.max_vio:.2f} (block {worst.layer})"
                f"  {sum(r.n_dead for r in progress.routers)} dead"
                f"  sure {min(sure):.2f} to {max(sure):.2f}"
            )
            for router in progress.routers:
                found += [
                    ("router_max_vio", router.layer, router.max_vio),
                    ("router_dead_anchors", router.layer, float(router.n_dead)),
                    ("router_concentration", router.layer, router.concentration),
                    ("router_information", router.layer, router.information),
                ]
        typer.echo(line, err=True)
        self._add(progress.n_tokens, [(name, at, None, value) for name, at, value in found])

    def heldout(self, rows: "list[Heldout]", n_tokens: int) -> None:
        """How well held-out texts are predicted."""
        shown = "  ".join(f"{row.category} {row.bits_per_byte:.3f}" for row in rows)
        typer.echo(f"held out, bits a byte: {shown}", err=True)
        bits = [("heldout_bits_per_byte", None, r.category, r.bits_per_byte) for r in rows]
        perplexity = [("heldout_perplexity", None, r.category, r.perplexity) for r in rows]
        self._add(n_tokens, [*bits, *perplexity])

    def leaks(self, check: "LeakCheck", n_tokens: int) -> None:
        """How much of the energy the routers could see, beside how much there is to be seen."""
        values = [interval.value for interval in check.predicted]
        typer.echo(
            f"predicted energy correlates with the true one by {min(values):.2f} to "
            f"{max(values):.2f}; the ceiling is {check.ceiling:.2f}",
            err=True,
        )
        for layer in check.leaks:
            typer.echo(
                f"warning: block {layer} is above the ceiling: a leak of the next token, or a "
                "model far from calibrated",
                err=True,
            )
        found: list[tuple[str, int | None, str | None, float | None]] = [
            ("energy_ceiling", None, None, check.ceiling)
        ]
        found += [("predicted_energy", n, None, value) for n, value in enumerate(values)]
        self._add(n_tokens, found)

    def _add(
        self, n_tokens: int, found: list[tuple[str, int | None, str | None, float | None]]
    ) -> None:
        if self._path is None:
            return
        if self._is_new and self._path.exists():
            self._rows = pl.read_parquet(self._path, glob=False, hive_partitioning=False).filter(
                pl.col("n_tokens") < n_tokens
            )
        self._is_new = False
        rows = [(n_tokens, *row) for row in found if row[-1] is not None]
        new = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
        self._rows = pl.concat([self._rows, new])
        with whole_file(self._path) as partial:
            self._rows.write_parquet(partial)
