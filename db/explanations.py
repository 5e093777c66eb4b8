"""What features are said to stand for: read from files that somebody else has written."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa

from energylens.db.beside import read_rows, replace_rows
from energylens.db.claim import claim_run
from energylens.db.layout import RunLayout
from energylens.db.table import FEATURE, RUN, SAE, Column, Table

EXPLANATIONS = Table(
    "explanations",
    "What a feature is said to stand for: as a file said that `energylens explain` read, which "
    "nobody has checked against the run, and (method tokens) by the pattern of feature_patterns.",
    "beside",
    ("run_id", "sae_id", "feature_id", "description", "method", "model"),
    (
        RUN,
        SAE,
        FEATURE,
        Column("description", pa.string(), "the explanation in words"),
        Column("method", pa.string(), "how it was made (Neuronpedia: typeName); '' if not said"),
        Column("model", pa.string(), "the model that wrote it; '' if not said"),
        Column("score", pa.float64(), "how well it was scored, higher is better; NULL if not said"),
        Column("score_type", pa.string(), "what the score measures; NULL if not said"),
        Column(
            "is_label",
            pa.bool_(),
            "the one of the feature that lists show as its label: the best scored, of equal ones "
            "the one read first; a pattern where there is none, or where a language model wrote it "
            "(method explained) and every judge's detection score of it is below the pattern's",
        ),
    ),
)


@dataclass(frozen=True)
class Explanation:
    """A row of `explanations`."""

    run_id: str
    sae_id: str
    feature_id: int
    description: str
    method: str = ""
    model: str = ""
    score: float | None = None
    score_type: str | None = None
    is_label: bool = False


def write_explanations(
    run: RunLayout, sae_id: str, new: Iterable[Explanation], is_replacing: bool = False
) -> None:
    """Add explanations of an SAE's features to those there are, or put them in their place. One
    that is there already takes the new score.

    Raises:
        StoreBusyError: another process writes explanations of this run just now.
        StoreError: the disk cannot be written.
    """
    with claim_run(run):
        old = read_explanations(run.explanations)
        kept = [one for one in old if not (is_replacing and one.sae_id == sae_id)]
        replace_explanations(run, [*kept, *new])


def read_explanations(path: Path) -> list[Explanation]:
    """The explanations of a file; none where there is no file.

    Raises:
        StoreDamagedError: the file is not one that `write_explanations` writes.
    """
    return [Explanation(**row) for row in read_rows(path, EXPLANATIONS)]


def merge_explanations(source: RunLayout, target: RunLayout) -> None:
    """Take in the explanations of another copy of a run."""
    if not source.explanations.exists():
        return
    with claim_run(target):
        both = [*read_explanations(target.explanations), *read_explanations(source.explanations)]
        replace_explanations(target, both)


def replace_explanations(run: RunLayout, explanations: list[Explanation]) -> None:
    """Write them with the best of each feature marked; of two about the same, the later score.
    Whoever calls it holds the run's claim."""
    latest = {
        (e.sae_id, e.feature_id, e.description, e.method, e.model): e for e in explanations
    }.values()
    best: dict[tuple[str, int], Explanation] = {}
    for one in latest:
        other = best.get((one.sae_id, one.feature_id))
        if other is None or _score(one) > _score(other):
            best[one.sae_id, one.feature_id] = one
    ordered = sorted(latest, key=lambda e: (e.sae_id, e.feature_id))
    marked = (
        asdict(replace(one, is_label=one is best[one.sae_id, one.feature_id])) for one in ordered
    )
    replace_rows(run.explanations, EXPLANATIONS, marked)


def _score(one: Explanation) -> float:
    return float("-inf") if one.score is None else one.score
