"""Which explanation of a feature is its label: what somebody said, a pattern, or what a language
model wrote, against the rule written out in Python."""

from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

from energylens.db.explanations import Explanation
from energylens.db.scores import ExplanationScore
from tests.nulls.memory import Memory

RUN, SAE = "r", "s"


def said(text: str, method: str = "", score: float | None = None, feature: int = 0) -> Explanation:
    return Explanation(RUN, SAE, feature, text, method, "m", score)


def scored(
    text: str, score: float | None, judge: str = "j", kind: str = "detection", feature: int = 0,
    method: str = "explained",
) -> ExplanationScore:  # fmt: skip
    return ExplanationScore(RUN, SAE, feature, text, method, "m", kind, judge, score)


def held(
    explanations: Iterable[Explanation],
    scores: Iterable[ExplanationScore],
    patterns: dict[int, tuple[str | None, float]],
) -> Memory:
    """A store of them; patterns are descriptions and balanced accuracies."""
    memory = Memory()
    rows = {
        "explanations": [asdict(one) for one in explanations],
        "explanation_scores": [asdict(one) for one in scores],
        "feature_patterns": [
            {"run_id": RUN, "sae_id": SAE, "feature_id": feature, "description": text,
             "balanced_accuracy": accuracy} for feature, (text, accuracy) in patterns.items()
        ],
    }  # fmt: skip
    memory._show({name: pa.Table.from_pylist(own) for name, own in rows.items() if own})
    return memory


def labels(memory: Memory) -> dict[int, list[str]]:
    found = memory.cursor().sql(
        "SELECT feature_id, list(description) FROM explanations WHERE is_label GROUP BY ALL"
    )
    return dict(found.fetchall())


LLM, BY_HAND, PATTERN = "a model's words", "somebody's words", "the token a"
CASES = {
    "nobody has said anything": ([], [], PATTERN),
    "somebody without a score": ([said(BY_HAND)], [], BY_HAND),
    "a model without a score": ([said(LLM, "explained")], [], LLM),
    "a model that does worse": ([said(LLM, "explained", 0.6)], [scored(LLM, 0.6)], PATTERN),
    "a model that does better": ([said(LLM, "explained")], [scored(LLM, 0.9)], LLM),
    "a model that does as well": ([said(LLM, "explained")], [scored(LLM, 0.8)], LLM),
    "one judge of two is better": (
        [said(LLM, "explained")], [scored(LLM, 0.5), scored(LLM, 0.9, "k")], LLM,
    ),
    "both judges are worse": (
        [said(LLM, "explained")], [scored(LLM, 0.5), scored(LLM, 0.7, "k")], PATTERN,
    ),
    "only fuzzing is worse": ([said(LLM, "explained")], [scored(LLM, 0.5, kind="fuzzing")], LLM),
    "a file told it, no judge": ([said(LLM, "explained")], [scored(LLM, 0.5, judge="")], LLM),
    "no answer could be read": ([said(LLM, "explained")], [scored(LLM, None)], LLM),
    "imported, and judged worse": (
        [said(BY_HAND, "auto")], [scored(BY_HAND, 0.5, method="auto")], BY_HAND,
    ),
    "the same words by two": (
        [said(LLM, "explained", 0.6), said(LLM, "auto", 0.1)], [scored(LLM, 0.6)], LLM,
    ),
    "somebody beside a model that does worse": (
        [said(LLM, "explained", 0.6), said(BY_HAND)], [scored(LLM, 0.6)], BY_HAND,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_label_of_a_feature(case: str) -> None:
    explanations, scores, expected = CASES[case]
    best = max(explanations, key=lambda e: -1.0 if e.score is None else e.score, default=None)
    marked = [Explanation(**{**asdict(e), "is_label": e is best}) for e in explanations]
    memory = held(marked, scores, {0: (PATTERN, 0.8)})
    assert labels(memory) == {0: [expected]}
    n_told = memory.cursor().execute("SELECT count(*) FROM explanations").fetchall()[0][0]
    assert n_told == len(explanations) + 1, "the others are still told"


def test_a_model_that_does_worse_is_a_label_where_there_is_no_pattern() -> None:
    words = [Explanation(**{**asdict(said(LLM, "explained", 0.4)), "is_label": True})]
    assert labels(held(words, [scored(LLM, 0.4)], {0: (None, 0.9)})) == {0: [LLM]}
    assert labels(held(words, [scored(LLM, 0.4)], {1: (PATTERN, 0.9)})) == {0: [LLM], 1: [PATTERN]}


def test_labels_of_many_features_follow_the_rule() -> None:
    draw = np.random.default_rng(3)
    explanations: list[Explanation] = []
    scores: list[ExplanationScore] = []
    patterns: dict[int, tuple[str | None, float]] = {}
    expected: dict[int, list[str]] = {}
    for feature in range(300):
        own = [
            said(f"{feature}.{n}", ("explained", "auto")[draw.integers(2)], float(draw.random()),
                 feature) for n in range(draw.integers(4))
        ]  # fmt: skip
        judged = [
            scored(e.description, float(draw.random()), judge, feature=feature, method=e.method)
            for e in own for judge in "jk" if draw.random() < 0.5
        ]  # fmt: skip
        has_pattern, accuracy = bool(draw.random() < 0.7), float(draw.uniform(0.3, 0.9))
        best = max(own, key=lambda e: e.score or 0.0, default=None)
        explanations += [Explanation(**{**asdict(e), "is_label": e is best}) for e in own]
        scores += judged
        patterns[feature] = (f"pattern {feature}" if has_pattern else None, accuracy)
        left = []
        for e in own:
            by_judges = [s.score or 0.0 for s in judged if s.description == e.description]
            is_worse = bool(by_judges) and max(by_judges) < accuracy
            if not (has_pattern and e.method == "explained" and is_worse):
                left.append(e)
        if left:
            expected[feature] = [max(left, key=lambda e: e.score or 0.0).description]
        elif has_pattern:
            expected[feature] = [f"pattern {feature}"]
    memory = held(explanations, scores, patterns)
    assert labels(memory) == expected
    n_patterns = pl.Series([text for text, _ in patterns.values()]).count()
    rows = memory.cursor().execute("SELECT count(*) FROM explanations").fetchall()
    assert rows == [(len(explanations) + n_patterns,)], "none is lost or told twice"
