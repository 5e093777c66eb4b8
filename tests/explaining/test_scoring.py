"""Scores of explanations against judges whose verdicts are known."""

import json
import re
from collections.abc import Callable

import pytest

from energylens.explaining.prompts import Excerpt
from energylens.explaining.scoring import AT_ONCE, Kind, Sample, questions, score
from energylens.explaining.speaker import Prompt


class Judge:
    """Answers each excerpt by a rule; counts what it is asked."""

    name = "judge"

    def __init__(self, rule: Callable[[str], object]) -> None:
        self.rule, self.asked = rule, []

    def say(self, prompt: Prompt) -> str:
        self.asked.append(prompt)
        _, *lines = prompt.user.split("\n")
        texts = [json.loads(line.split(". ", 1)[1]) for line in lines]
        return json.dumps([self.rule(text) for text in texts])


def sample(n: int = 50, n_texts: int = 25) -> Sample:
    """Excerpts with "yes" in them where a feature is active, and marked just there."""
    active = [
        Excerpt(i % n_texts, (b"a", b" yes", str(i).encode()), (False, True, False))
        for i in range(n)
    ]
    silent = [
        Excerpt(i % n_texts, (b"b", b" no", str(i).encode()), (True, False, False))
        for i in range(n)
    ]
    return Sample(tuple(active), tuple(silent))


@pytest.mark.parametrize("kind", ["detection", "fuzzing"])
def test_who_knows_scores_one_and_who_errs_always_none(kind: Kind) -> None:
    knows = score(Judge(lambda text: int("yes" in text)), kind, "x", sample())
    assert (knows.score, knows.n_active, knows.n_silent) == (1.0, 50, 50)
    assert (knows.n_texts, knows.n_unanswered) == (25, 0)
    assert knows.low is not None and 0.9 < knows.low < 1.0
    errs = score(Judge(lambda text: int("no" in text)), kind, "x", sample())
    assert errs.score == 0.0


def test_who_always_says_yes_scores_chance_however_many_there_are_of_each() -> None:
    uneven = Sample(sample().active, sample(20).silent)
    found = score(Judge(lambda _: 1), "detection", "x", uneven)
    assert found.score == 0.5


def test_half_right_counts_by_kind() -> None:
    """Finds 4 of 5 active excerpts and takes 1 of 5 silent ones for active: (.8 + .8) / 2."""
    found = score(
        Judge(lambda text: int(("yes" in text) != (re.search(r"[05]$", text) is not None))),
        "detection",
        "x",
        sample(),
    )
    assert found.score == pytest.approx(0.8)
    assert found.low is not None and found.high is not None
    assert found.low < 0.8 < found.high


def test_few_texts_have_a_score_and_no_interval() -> None:
    found = score(Judge(lambda text: int("yes" in text)), "detection", "x", sample(n_texts=3))
    assert (found.score, found.low, found.high) == (1.0, None, None)


def test_what_cannot_be_read_is_asked_twice_and_then_left_out() -> None:
    judge = Judge(lambda text: "nonsense" if text.endswith("7") else int("yes" in text))
    found = score(judge, "detection", "x", sample())
    assert found.n_unanswered % AT_ONCE == 0
    assert found.n_unanswered + found.n_active + found.n_silent == 100
    assert len(judge.asked) == 10 + found.n_unanswered // AT_ONCE
    assert found.n_unanswered > 50 and found.score is None


def test_without_one_of_the_kinds_there_is_no_score() -> None:
    found = score(Judge(lambda _: 1), "detection", "x", Sample(sample().active, ()))
    assert (found.score, found.n_active, found.n_silent) == (None, 50, 0)
    assert score(Judge(lambda _: 1), "fuzzing", "x", Sample((), ())).score is None


def test_excerpts_are_mixed_the_same_way_every_time_and_shown_once() -> None:
    judge = Judge(lambda text: int("yes" in text))
    score(judge, "fuzzing", "x", sample(), seed=4)
    assert judge.asked == questions("fuzzing", "x", sample(), seed=4)
    kinds = [[is_active for _, is_active in sample().shuffled(seed)] for seed in (4, 5)]
    assert kinds[0] != kinds[1] and kinds[0] != sorted(kinds[0], reverse=True)
    shown = "\n".join(prompt.user for prompt in judge.asked)
    assert all(f'"a<< yes>>{i}"' in shown and f'"<<b>> no{i}"' in shown for i in range(50))
