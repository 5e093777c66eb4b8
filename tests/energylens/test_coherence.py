"""Answers whose parts do not fit together are refused, sound ones are not."""

from dataclasses import replace

import pytest

from energylens.coherence import check
from energylens.errors import UsageError
from energylens.protocol import (
    AttentionResult,
    AttributionResult,
    ChoiceReading,
    Condition,
    Curve,
    DoneResult,
    FeatureReading,
    InterventionResult,
    PromptResult,
    Reading,
    SourcesResult,
    TokenReading,
    TokenShift,
)

TOKEN = TokenReading(0, "a", 1, 1.0, 1.0, [1.0, 2.0], ["b", "c"])
READING = Reading(
    [0, 1],
    [TOKEN, replace(TOKEN, pos=1)],
    [FeatureReading("s", 1, 3, 1.0)],
    [ChoiceReading("r", 0, 1, [1, 2], [0.5, 0.5])],
)
CLEAN = Condition("clean", [], [1.0, None], [[1.0, None]], [0.0, 0.0], 0.0)
EDITED = replace(CLEAN, name="edited", feature_ids=[1])
CHANGED = InterventionResult(
    ["a", "b"], [0], [CLEAN, EDITED], [TokenShift(1, "x", 0.1, 0.2)], [], [], None
)
BEHIND = AttributionResult("m", ["a", "b"], 1, 1.0, 0.0, [], {}, Curve([1], [0.5], [0.5]))


@pytest.mark.parametrize(
    "answer",
    [
        PromptResult(READING, None, None), PromptResult(READING, READING, "r"), CHANGED, BEHIND,
        AttentionResult("attention", ["a", "b"], [[1.0], [0.5, 0.5]]),
        SourcesResult(["a", "b"], 1.0, 0.0, [[1.0, 0.0]]), DoneResult("x"),
    ],
)  # fmt: skip
def test_what_fits_together_is_taken(answer: object) -> None:
    check(answer)


@pytest.mark.parametrize(
    "answer",
    [
        PromptResult(replace(READING, layers=[0]), None, None),
        PromptResult(READING, replace(READING, tokens=[replace(TOKEN, pos=1)]), None),
        PromptResult(replace(READING, tokens=[replace(TOKEN, pos=-1)]), None, None),
        PromptResult(replace(READING, features=[FeatureReading("s", 2, 3, 1.0)]), None, None),
        PromptResult(replace(READING, choices=[ChoiceReading("r", 0, -1, [], [])]), None, None),
        PromptResult(replace(READING, choices=[ChoiceReading("r", 0, 0, [1], [])]), None, None),
        replace(CHANGED, conditions=[CLEAN]),
        replace(CHANGED, conditions=[EDITED, CLEAN]),
        replace(CHANGED, conditions=[CLEAN, replace(EDITED, kl=[0.0])]),
        replace(CHANGED, conditions=[CLEAN, replace(EDITED, energies=[])]),
        replace(CHANGED, conditions=[CLEAN, replace(EDITED, acted=[True])]),
        replace(CHANGED, conditions=[CLEAN, replace(EDITED, lens_energies=[[1.0]])]),
        replace(CHANGED, layers=[0, 1]),
        replace(CHANGED, shifts=[TokenShift(2, "x", 0.1, 0.2)]),
        replace(BEHIND, position=2),
        replace(BEHIND, tokens=[]),
        replace(BEHIND, curve=Curve([1], [], [0.5])),
        AttentionResult("attention", ["a", "b"], [[1.0]]),
        AttentionResult("attention", ["a"], [[0.5, 0.5]]),
        SourcesResult(["a", "b"], 1.0, 0.0, [[1.0]]),
    ],
)
def test_what_does_not_is_refused(answer: object) -> None:
    with pytest.raises(UsageError, match="does not fit together"):
        check(answer)
