"""What a training wrote down of itself: `metrics.parquet` of `energylens train sae`."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from energylens.errors import UsageError

SHOWN = ("loss", "fvu", "l0", "dead_share")
_COLUMNS = ("step", "sae", "metric", "value")


@dataclass(frozen=True)
class Curve:
    """One metric of one SAE over the steps."""

    metric: str
    sae: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


def training_curves(place: Path) -> list[Curve]:
    """Curves of the metrics in SHOWN, SAE by SAE, from a training's directory or its file.

    Raises:
        UsageError: nothing there can be read as such.
    """
    path = place / "metrics.parquet" if place.is_dir() else place
    if not path.is_file():
        raise UsageError(
            f"there is no '{path}'; give the directory that `energylens train sae` writes into"
        )
    try:
        rows = pl.read_parquet(path, glob=False, hive_partitioning=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"'{path}' cannot be read: {error}") from error
    if not set(_COLUMNS) <= set(rows.columns):
        raise UsageError(
            f"'{path}' has no columns {', '.join(_COLUMNS)}, so `energylens train sae` did not "
            "write it"
        )
    found = []
    for metric in SHOWN:
        own = rows.filter(pl.col("metric") == metric).sort("step")
        for (sae,), part in own.group_by("sae", maintain_order=True):
            steps, values = part["step"].to_list(), part["value"].to_list()
            found.append(Curve(metric, str(sae), tuple(steps), tuple(values)))
    return found
