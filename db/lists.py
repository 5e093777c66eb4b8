"""What people and language models say of a run's features as one list, which two copies of the run
can take from each other: notes, explanations, scores of them, ratings.

Of two rows about one thing the later stays. An explanation is a thing of its own, so that both
stay; of two scores of one, which have no time there, the higher stays. What comes of it is the same
whoever takes from whom first, and taking again changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from operator import itemgetter
from typing import Any, Literal, TypeVar

from energylens.db.beside import latest, replace_rows
from energylens.db.claim import claim_run
from energylens.db.explanations import (
    EXPLANATIONS,
    Explanation,
    read_explanations,
    replace_explanations,
)
from energylens.db.layout import RunLayout
from energylens.db.notes import NOTES, Note, read_notes
from energylens.db.provenance import RunInfo
from energylens.db.ratings import RATINGS, Rating, read_ratings
from energylens.db.scores import EXPLANATION_SCORES, ExplanationScore, read_scores
from energylens.db.table import Table

Row = TypeVar("Row", Note, Explanation, ExplanationScore, Rating)

WHAT = "energylens list"
VERSION = 1


@dataclass(frozen=True)
class ListedSae:
    """What tells an SAE from another one of its name."""

    sae_id: str
    d_sae: int
    weights_sha256: str


@dataclass(frozen=True)
class ListedRun:
    """What tells a run from another one of its name."""

    run_id: str
    identity: str | None
    n_ctx: int
    n_contexts: int
    saes: list[ListedSae]


@dataclass(frozen=True)
class Known:
    """Rows of the tables of these names."""

    notes: list[Note] = field(default_factory=list)
    explanations: list[Explanation] = field(default_factory=list)
    explanation_scores: list[ExplanationScore] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)


@dataclass(frozen=True)
class SharedList:
    """A list as a file holds it."""

    what: Literal["energylens list"]
    version: Literal[1]
    run: ListedRun
    known: Known


@dataclass(frozen=True)
class Taken:
    """How many rows of each table are new or took another one's place."""

    notes: int = 0
    explanations: int = 0
    explanation_scores: int = 0
    ratings: int = 0


def listed_run(run: RunInfo) -> ListedRun:
    """A run as lists name it."""
    saes = [ListedSae(sae.sae_id, sae.d_sae, sae.weights_sha256) for sae in run.saes]
    return ListedRun(run.run_id, run.versions.get("identity"), run.n_ctx, run.n_contexts, saes)


def read_known(run: RunLayout) -> Known:
    """All that is known of a run, in order; which explanation is the label follows from it.

    Raises:
        StoreDamagedError: a file is not what was written.
    """
    told = [replace(one, is_label=False) for one in read_explanations(run.explanations)]
    own = Known(read_notes(run.notes), told, read_scores(run), read_ratings(run))
    return merged(own, Known())


def merged(one: Known, other: Known) -> Known:
    """Both together; the same whichever comes first."""
    return Known(
        _later(NOTES, Note, one.notes, other.notes, itemgetter("changed")),
        _later(EXPLANATIONS, Explanation, one.explanations, other.explanations, _by_score),
        _later(
            EXPLANATION_SCORES,
            ExplanationScore,
            one.explanation_scores,
            other.explanation_scores,
            itemgetter("scored"),
        ),
        _later(RATINGS, Rating, one.ratings, other.ratings, itemgetter("changed")),
    )


def take_in(run: RunLayout, theirs: Known) -> Taken:
    """Put what is known elsewhere beside what is known here. Every file is written whole; who was
    stopped between two of them takes in the same again.

    Raises:
        StoreBusyError: another process writes what is known of this run just now.
        StoreError: the disk cannot be written.
    """
    with claim_run(run):
        ours = read_known(run)
        both = merged(ours, theirs)
        told = set(ours.explanations)
        new = [one for one in both.explanations if one not in told]
        if new:
            replace_explanations(run, [*read_explanations(run.explanations), *new])
        return Taken(
            _put(run, NOTES, ours.notes, both.notes),
            len(new),
            _put(run, EXPLANATION_SCORES, ours.explanation_scores, both.explanation_scores),
            _put(run, RATINGS, ours.ratings, both.ratings),
        )


def _put(run: RunLayout, table: Table, ours: Sequence[Any], both: Sequence[Any]) -> int:
    """Write the rows of a table where there are new ones; how many."""
    before = set(ours)
    n = sum(one not in before for one in both)
    if n:
        replace_rows(run.beside(table.name), table, map(asdict, both))
    return n


def _later(
    table: Table,
    kind: type[Row],
    one: Sequence[Row],
    other: Sequence[Row],
    when: Callable[[Mapping[str, Any]], Any],
) -> list[Row]:
    rows = [asdict(row) for row in (*one, *other)]  # type: ignore[call-overload]
    return [kind(**row) for row in latest(table, rows, when)]


def _by_score(row: Mapping[str, Any]) -> tuple[bool, float]:
    return row["score"] is not None, row["score"] or 0.0
