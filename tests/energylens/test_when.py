"""Conditions as they are written: read, written again, and refused with advice."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energylens.errors import UsageError
from energylens.when import COMPARISONS, When, check_when, parse_when, when_told

names = st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(
    lambda text: text == text.strip() and not set(text) & set("<>=:")
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
of_features = st.builds(
    When, st.just("") | names, st.integers(0, 10**6), st.none(),
    st.sampled_from(list(COMPARISONS)), numbers,
)  # fmt: skip
of_probes = st.builds(
    When, st.just("") | names, st.none(), names, st.sampled_from(list(COMPARISONS)),
    st.integers(0, 100).map(lambda n: n / 100),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("285>2.0", When("", 285, None, ">", 2.0)),
        (" 285 <= -1e3 ", When("", 285, None, "<=", -1000.0)),
        ("285", When("", 285, None, ">", 0.0)),
        ("blocks.1:7>=.5", When("blocks.1", 7, None, ">=", 0.5)),
        ("a:b/c:7<3", When("a:b/c", 7, None, "<", 3.0)),
        ("python_probe", When("", None, "python", ">", 0.5)),
        ("blocks.1:non_english_probe>0.9", When("blocks.1", None, "non_english", ">", 0.9)),
        ("C<3 code_probe<0.1", When("", None, "C<3 code", "<", 0.1)),
    ],
)
def test_a_condition_is_read(text: str, when: When) -> None:
    assert parse_when(text) == when


@given(of_features | of_probes)
def test_what_is_told_is_read_again(when: When) -> None:
    assert parse_when(when_told(when)) == when


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is no condition: a condition is a feature with a threshold, as in '285>2.0'"),
        ("python", "or the name of a category with _probe"),
        ("_probe", "'_probe' is no condition"),
        (">2", "'>2' is no condition"),
        ("285>", "'' is no number to compare with"),
        ("285>two", "'two' is no number to compare with"),
        ("285=2", "'285=2' is no condition"),
        ("285=>2", "'285=>2' is no condition"),
        ("285>nan", "compares with a number, not nan"),
        ("285>inf", "compares with a number, not inf"),
        ("-1>2", "'-1>2' is no condition"),
        ("2.5>2", "'2.5>2' is no condition"),
        ("²>2", "is no condition"),
        ("9" * 19 + ">2", "no SAE has so many features"),
        ("python_probe>2", "a probability, from 0 to 1; it cannot be compared with 2"),
        ("python_probe<-0.1", "cannot be compared with -0.1"),
    ],
)
def test_what_is_none_is_refused_with_advice(text: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_when(text)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (When(), "give one of them"),
        (When(feature_id=1, category="a"), "give one of them"),
        (When(feature_id=1, comparison="=="), "compares by >, >=, <, <=, not '=='"),
        (When(feature_id=1, threshold=math.nan), "not nan"),
    ],
)
def test_a_record_is_checked_too(when: When, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_when(when)
