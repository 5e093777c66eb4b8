"""Which of the tokens that are masked by default a question counts after all."""

from dataclasses import dataclass
from typing import TypedDict

from energylens.db.store import Reader
from energylens.queries.scope import looked_up


class WithMasked(TypedDict, total=False):
    """The parameters of the named queries for it; false where not given."""

    with_special: bool
    """BOS, EOS and the like."""
    with_first: bool
    """The first token of a context."""
    with_sinks: bool
    """Attention sinks, whose norm stands out."""


@dataclass(frozen=True)
class Unmasked:
    """Masks that are lifted. A token under several counts once all of them are."""

    special: bool = False
    first: bool = False
    sinks: bool = False

    @property
    def asked(self) -> WithMasked:
        """As parameters of a named query."""
        return {
            "with_special": self.special,
            "with_first": self.first,
            "with_sinks": self.sinks,
        }

    @property
    def title(self) -> str:
        """In words; empty where every mask holds."""
        named = {"special": self.special, "first": self.first, "sink": self.sinks}
        lifted = [name for name, is_lifted in named.items() if is_lifted]
        return f"with {', '.join(lifted)} tokens" if lifted else ""

    def __bool__(self) -> bool:
        return self.special or self.first or self.sinks


@dataclass(frozen=True)
class MaskCounts:
    """How many tokens of a run each mask leaves out; one token may be under several."""

    special: int
    first: int
    sinks: int


def mask_counts(store: Reader, run: str | None) -> MaskCounts:
    """Count them; None is the only run.

    Raises:
        UnknownNameError: there is no such run.
    """
    named = looked_up(store, {"run": True}, {"run": run})
    row = store.cursor().execute(
        "SELECT count(*) FILTER (is_special), count(*) FILTER (is_first), "
        "count(*) FILTER (is_sink) FROM tokens WHERE run_id = $run",
        named,
    )
    return MaskCounts(*(row.fetchone() or (0, 0, 0)))
