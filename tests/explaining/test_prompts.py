"""Prompts: what a model sees of an excerpt, and what is read from its answers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energylens.explaining.prompts import (
    MOST_CHARACTERS,
    Excerpt,
    detection_prompt,
    explanation_prompt,
    fuzzing_prompt,
    read_explanation,
    read_verdicts,
)


def excerpt(
    *tokens: str, marked: tuple[int, ...] = (), strengths: tuple[float, ...] = ()
) -> Excerpt:
    return Excerpt(
        3,
        tuple(token.encode() for token in tokens),
        tuple(place in marked for place in range(len(tokens))),
        strengths or (0.0,) * len(tokens),
    )


def test_marks_stand_around_neighbours_together() -> None:
    one = excerpt("the", " cat", " sat", " on", marked=(1, 2))
    assert one.with_marks == "the<< cat sat>> on"
    assert excerpt("a", "b", marked=(0, 1)).with_marks == "<<ab>>"
    assert one.plain == "the cat sat on"


def test_a_character_cut_between_two_tokens_is_whole_in_the_text() -> None:
    euro = "€".encode()
    one = Excerpt(0, (euro[:1], euro[1:]), (True, True))
    assert one.with_marks == "<<€>>"


def test_an_explanation_is_asked_for_with_strengths_of_marked_tokens_alone() -> None:
    one = excerpt("a", " b", " c", marked=(0, 2), strengths=(1.0, 0.0, 0.26))
    assert explanation_prompt([one]).user == '"<<a>> b<< c>>"  ("a": 10, " c": 3)'


@given(st.lists(st.text(), min_size=1, max_size=5), st.text())
def test_no_text_ends_its_own_quotes(texts: list[str], said: str) -> None:
    prompt = detection_prompt(said, [excerpt(text) for text in texts])
    first, *rest = prompt.user.split("\n")
    assert json.loads(first.removeprefix("Said: ")) == said
    read = [json.loads(line.split(". ", 1)[1]) for line in rest]
    assert read == [text.encode(errors="replace").decode(errors="replace") for text in texts]


def test_detection_shows_no_marks_and_fuzzing_does() -> None:
    one = excerpt("a", "b", marked=(1,))
    assert "<<" not in detection_prompt("x", [one]).user
    assert fuzzing_prompt("x", [one]).user.endswith('1. "a<<b>>"')


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ('{"explanation": "closing brackets"}', "closing brackets"),
        ('Sure!\n```json\n{"explanation": "closing\\n brackets"}\n```', "closing brackets"),
        ("Explanation: names of rivers\nBecause ...", "names of rivers"),
        ('"digits"', "digits"),
        ('{"explanation": 3}', None),
        ('{"other": "x"}', None),
        ('{"explanation": "half \\ud83d"}', "half ?"),
        ('{"explanation": "cut off', "cut off"),
        ("```json\n{}\n```", None),
        ("", None),
        ("...\n!!", None),
        ('{"explanation": ""}', None),
    ],
)
def test_an_explanation_is_one_line(answer: str, read: str | None) -> None:
    assert read_explanation(answer) == read


@given(st.text())
def test_whatever_is_answered_an_explanation_is_short_and_one_line(answer: str) -> None:
    found = read_explanation(answer)
    assert found is None or (0 < len(found) <= MOST_CHARACTERS and len(found.splitlines()) == 1)


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("[1, 0, 1]", [True, False, True]),
        ("I think [0, 1] no: [1,0,0].", [True, False, False]),
        ('["yes", "no", "Yes"]', [True, False, True]),
        ("[true, false, true]", [True, False, True]),
        ("[1, 0]", None),
        ("[1, 0, 2]", None),
        ("1 0 1", None),
        ("[[1, 0, 1]]", [True, False, True]),
        ("", None),
    ],
)
def test_verdicts_are_just_as_many_as_were_asked_for(answer: str, read: list[bool] | None) -> None:
    assert read_verdicts(answer, 3) == read


@given(st.text(), st.integers(1, 12))
def test_whatever_is_answered_there_are_n_verdicts_or_none(answer: str, n: int) -> None:
    found = read_verdicts(answer, n)
    assert found is None or len(found) == n
