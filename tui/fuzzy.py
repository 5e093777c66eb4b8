"""Entries that letters are found in: in one piece, or one after the other with others between."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Entry(Generic[T]):
    """Something to choose."""

    title: str
    value: T
    about: str = ""
    """What is said beside the title; words are found in it, too."""
    kind: str = ""
    more: str = ""
    """All of it, for the entry under the cursor."""


@dataclass(frozen=True)
class Found(Generic[T]):
    """An entry with where the letters stand in its title."""

    entry: Entry[T]
    score: float
    places: tuple[int, ...] = ()


def ranked(entries: Sequence[Entry[T]], letters: str) -> list[Found[T]]:
    """The entries that the letters are found in, the best first, of equal ones in their order; all
    of them where there are no letters."""
    wanted = letters.strip().lower()
    found = (_look(entry, wanted) for entry in entries)
    kept = [one for one in found if one is not None]
    return sorted(kept, key=lambda one: -one.score)


def places_of(text: str, letters: str) -> tuple[float, tuple[int, ...]]:
    """How well lower case letters fit a text, and where; 0 where they do not. It takes time in
    proportion to the text, whatever stands there."""
    lowered = text.lower() if len(text.lower()) == len(text) else text
    at = lowered.find(letters)
    if at >= 0:
        begins = at == 0 or not lowered[at - 1].isalnum()
        whole = len(letters) / len(lowered) if lowered else 1.0
        return 2.0 + begins + (at == 0) + whole, tuple(range(at, at + len(letters)))
    places: list[int] = []
    start = 0
    for letter in letters:
        if letter.isspace():
            continue
        at = lowered.find(letter, start)
        if at < 0:
            return 0.0, ()
        places.append(at)
        start = at + 1
    return (len(places) / (places[-1] - places[0] + 1), tuple(places)) if places else (0.0, ())


def _look(entry: Entry[T], wanted: str) -> Found[T] | None:
    if not wanted:
        return Found(entry, 0.0)
    score, places = places_of(entry.title, wanted)
    if score >= 2:
        return Found(entry, score, places)
    beside = f"{entry.kind} {entry.title} {entry.about}".lower()
    if all(word in beside for word in wanted.split()):
        return Found(entry, 1.5, ())
    return Found(entry, score, places) if score else None
