"""A word that must be one of a few, or of many."""

import difflib
from collections.abc import Iterable, Sequence
from typing import TypeVar

from energylens.errors import UsageError

Word = TypeVar("Word", bound=str)


def one_of(what: str, given: str, known: Sequence[Word]) -> Word:
    """The known word that was given; `what` begins the message, as in `--variant knows`.

    Raises:
        UsageError: it is none of them.
    """
    for word in known:
        if word == given:
            return word
    raise UsageError(f"{what} {', '.join(known)}, not '{given}'")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """A question in brackets with the likest known names; nothing where none is like it."""
    close = difflib.get_close_matches(given, list(known), n=3, cutoff=0.5)
    return f" (did you mean {', '.join(close)}?)" if close else ""
