"""Judge explanations by detection and fuzzing (Paulo et al. 2024).

A judge sees excerpts of texts that the explanation was not written from, half of them with the
feature active, half without, and says which is which. The score is the balanced accuracy, of which
chance is one half; texts are the units of its interval.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from energylens.explaining.prompts import Excerpt, detection_prompt, fuzzing_prompt, read_verdicts
from energylens.explaining.speaker import Prompt, Speaker
from energylens.stats.balanced import judged

Kind = Literal["detection", "fuzzing"]
KINDS: tuple[Kind, ...] = ("detection", "fuzzing")
AT_ONCE = 10
"""Excerpts a question."""
_TRIES = 2


@dataclass(frozen=True)
class Sample:
    """Excerpts of one feature that explanations are judged on, as many of each kind."""

    active: tuple[Excerpt, ...]
    """Tokens that the feature is active on are marked."""
    silent: tuple[Excerpt, ...]
    """It is active on none; as many are marked as in those of the other kind."""

    def shuffled(self, seed: int) -> list[tuple[Excerpt, bool]]:
        """All in an order by chance, with whether the feature is active there."""
        both = [(one, True) for one in self.active] + [(one, False) for one in self.silent]
        random.Random(seed).shuffle(both)
        return both


@dataclass(frozen=True)
class Scored:
    """How well an explanation does with one judge."""

    score: float | None
    """Balanced accuracy; None where a kind of excerpt is missing, or fewer than half were
    answered."""
    low: float | None
    high: float | None
    """95 % interval; None where texts are too few."""
    n_active: int
    n_silent: int
    n_texts: int
    n_unanswered: int


def score(speaker: Speaker, kind: Kind, description: str, sample: Sample, seed: int = 0) -> Scored:
    """Let a model judge an explanation.

    Raises:
        SpeakerError: it does not answer at all.
    """
    asked = sample.shuffled(seed)
    said: list[bool | None] = []
    for part in _parts(asked):
        excerpts = [excerpt for excerpt, _ in part]
        said += _verdicts(speaker, _prompt(kind, description, excerpts), len(part))
    return _counted(asked, said)


def questions(kind: Kind, description: str, sample: Sample, seed: int = 0) -> list[Prompt]:
    """Everything that `score` asks, if each answer can be read."""
    return [
        _prompt(kind, description, [excerpt for excerpt, _ in part])
        for part in _parts(sample.shuffled(seed))
    ]


def _parts(asked: Sequence[tuple[Excerpt, bool]]) -> Iterator[Sequence[tuple[Excerpt, bool]]]:
    for start in range(0, len(asked), AT_ONCE):
        yield asked[start : start + AT_ONCE]


def _prompt(kind: Kind, description: str, excerpts: Sequence[Excerpt]) -> Prompt:
    make = detection_prompt if kind == "detection" else fuzzing_prompt
    return make(description, excerpts)


def _verdicts(speaker: Speaker, prompt: Prompt, n: int) -> Sequence[bool | None]:
    for _ in range(_TRIES):
        found = read_verdicts(speaker.say(prompt), n)
        if found is not None:
            return found
    return [None] * n


def _counted(asked: Sequence[tuple[Excerpt, bool]], said: Sequence[bool | None]) -> Scored:
    answered = [
        (is_active, verdict, excerpt.text_id)
        for (excerpt, is_active), verdict in zip(asked, said, strict=True)
        if verdict is not None
    ]
    is_active = np.array([one[0] for one in answered], dtype=bool)
    verdicts = np.array([one[1] for one in answered], dtype=bool)
    texts = np.array([one[2] for one in answered], dtype=np.int64)
    found = judged(is_active, verdicts, texts)
    n_unanswered = len(asked) - len(answered)
    is_told = n_unanswered <= len(answered)
    return Scored(
        score=found.accuracy if is_told else None,
        low=found.low if is_told else None,
        high=found.high if is_told else None,
        n_active=int(is_active.sum()),
        n_silent=int((~is_active).sum()),
        n_texts=len(set(texts.tolist())),
        n_unanswered=n_unanswered,
    )
