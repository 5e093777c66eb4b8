"""How people rate what a feature is said to stand for, by the rubric of Bricken et al. (2023),
"Towards Monosemanticity"."""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa

from energylens.db.beside import keep_rows, read_rows
from energylens.db.layout import RunLayout
from energylens.db.table import FEATURE, RUN, SAE, Column, Table
from energylens.errors import UsageError

SCALES = {"confidence": 3, "consistency": 5, "completeness": 3, "specificity": 3}
"""What is rated, from 0 to so much, in the order in which it is asked."""
RATINGS = Table(
    "ratings",
    "How a person rates a feature's interpretation by the rubric of Towards Monosemanticity "
    "(Bricken et al. 2023); never derived, never overwritten by an index.",
    "beside",
    ("run_id", "sae_id", "feature_id", "rater"),
    (
        RUN,
        SAE,
        FEATURE,
        Column("rater", pa.string(), "who rates"),
        Column("confidence", pa.int16(), "0 to 3: how sure one is of the interpretation"),
        Column(
            "consistency",
            pa.int16(),
            "0 to 5: how well strong activations go with it, over contexts",
        ),
        Column("completeness", pa.int16(), "0 to 3: how much of what activates it, it explains"),
        Column("specificity", pa.int16(), "0 to 3: how specific it is"),
        Column("changed", pa.string(), "when it was last changed, ISO 8601 in UTC"),
    ),
)


@dataclass(frozen=True)
class Rating:
    """A row of `ratings`."""

    run_id: str
    sae_id: str
    feature_id: int
    rater: str
    confidence: int
    consistency: int
    completeness: int
    specificity: int
    changed: str = ""


def write_rating(run: RunLayout, rating: Rating) -> None:
    """Keep a rating in place of the rater's last one of the feature.

    Raises:
        UsageError: a number is outside its scale, or nobody rates.
        StoreBusyError: another process writes what is known of this run just now.
        StoreError: the disk cannot be written.
    """
    check_rating(rating)
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    keep_rows(run, RATINGS, [asdict(replace(rating, changed=now))])


def check_rating(rating: Rating) -> None:
    """Make sure that a rating is one.

    Raises:
        UsageError: a number is outside its scale, or nobody rates.
    """
    if not rating.rater.strip():
        raise UsageError("a rating needs the name of who rates")
    for scale, most in SCALES.items():
        if not 0 <= getattr(rating, scale) <= most:
            raise UsageError(f"{scale} is rated from 0 to {most}, not {getattr(rating, scale)}")


def read_ratings(run: RunLayout) -> list[Rating]:
    """The ratings of a run; none where there are none.

    Raises:
        StoreDamagedError: the file is not one that `write_rating` writes.
    """
    return [Rating(**row) for row in read_rows(run.ratings, RATINGS)]
