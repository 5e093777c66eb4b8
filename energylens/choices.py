"""A word that must be one of a few."""

from collections.abc import Sequence
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
