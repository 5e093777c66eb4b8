"""How well explanations of features do, whoever wrote them and whoever judged them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import pyarrow as pa

from energylens.db.beside import keep_rows, read_rows
from energylens.db.layout import RunLayout
from energylens.db.table import FEATURE, RUN, SAE, Column, Table

EXPLANATION_SCORES = Table(
    "explanation_scores",
    "How well an explanation does: every score that a file told of it, and those measured on this "
    "run by `energylens explain score`. The score of a row of explanations is one of these.",
    "beside",
    ("run_id", "sae_id", "feature_id", "description", "method", "model", "score_type", "judge"),
    (
        RUN,
        SAE,
        FEATURE,
        Column("description", pa.string(), "the explanation, as in explanations"),
        Column("method", pa.string(), "how it was made, as in explanations"),
        Column("model", pa.string(), "the model that wrote it, as in explanations"),
        Column(
            "score_type",
            pa.string(),
            "what it measures; detection and fuzzing are balanced accuracies, of which chance is "
            "one half",
        ),
        Column("judge", pa.string(), "the model that judged; '' where a file told the score"),
        Column("score", pa.float64(), "the score, higher is better; NULL where it has none"),
        Column(
            "score_low",
            pa.float64(),
            "lower bound at 95 %, texts as units; NULL with fewer than 10 of equal size",
        ),
        Column("score_high", pa.float64(), "upper bound of the same"),
        Column("n_active", pa.int32(), "contexts judged in which the feature is active"),
        Column("n_silent", pa.int32(), "contexts judged in which it is not"),
        Column("n_texts", pa.int32(), "texts they are from"),
        Column("n_unanswered", pa.int32(), "contexts left out, for no answer could be read"),
        Column("scored", pa.string(), "when, ISO 8601 in UTC"),
    ),
)


@dataclass(frozen=True)
class ExplanationScore:
    """A row of `explanation_scores`; what a file does not tell is None."""

    run_id: str
    sae_id: str
    feature_id: int
    description: str
    method: str
    model: str
    score_type: str
    judge: str = ""
    score: float | None = None
    score_low: float | None = None
    score_high: float | None = None
    n_active: int | None = None
    n_silent: int | None = None
    n_texts: int | None = None
    n_unanswered: int | None = None
    scored: str = ""


def write_scores(run: RunLayout, new: Iterable[ExplanationScore]) -> None:
    """Keep scores; one of the same explanation, kind and judge takes the old one's place.

    Raises:
        StoreBusyError: another process writes what is known of this run just now.
        StoreError: the disk cannot be written.
    """
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    keep_rows(run, EXPLANATION_SCORES, (asdict(one) | {"scored": now} for one in new))


def read_scores(run: RunLayout) -> list[ExplanationScore]:
    """The scores of a run; none where none are kept.

    Raises:
        StoreDamagedError: the file is not one that `write_scores` writes.
    """
    rows = read_rows(run.explanation_scores, EXPLANATION_SCORES)
    return [ExplanationScore(**row) for row in rows]
