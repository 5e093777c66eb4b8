"""Records of the protocol survive JSON, and what is no record is refused by name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energylens.errors import UsageError
from energylens.protocol import (
    AttributionResult,
    EditRequest,
    InterventionRequest,
    PromptRequest,
    SteeringRequest,
    SteeringResult,
)
from energylens.when import When
from energylens.wire import decode, encode

edits = st.builds(
    EditRequest,
    sae_id=st.text(),
    feature_ids=st.lists(st.integers(0, 99)).map(tuple),
    value=st.floats(allow_nan=False, allow_infinity=False),
    positions=st.none() | st.lists(st.integers(0, 9)).map(tuple),
    when=st.none()
    | st.builds(When, feature_id=st.none() | st.integers(0, 9), category=st.none() | st.text()),
)


@given(st.builds(InterventionRequest, text=st.text(), edit=edits, seed=st.integers(0, 9)))
def test_requests_come_back_as_they_went(asked: InterventionRequest) -> None:
    assert decode(InterventionRequest, json.loads(encode(asked))) == asked


@given(st.builds(SteeringRequest, prompt=st.text(), edit=edits))
def test_steering_requests_come_back_as_they_went(asked: SteeringRequest) -> None:
    assert decode(SteeringRequest, json.loads(encode(asked))) == asked


def test_what_json_cannot_hold_travels_as_null() -> None:
    line = encode({"a": float("nan"), "b": [float("inf"), 1.5]})
    assert json.loads(line) == {"a": None, "b": [None, 1.5]}
    back = decode(SteeringResult, {
        "prompt": "x",
        "texts": [{"strength": 0, "text": "", "activation": None, "perplexity": 1, "distinct": 1}],
    })  # fmt: skip
    assert back.texts[0].activation != back.texts[0].activation
    assert back.texts[0].strength == 0.0


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ([], "PromptRequest must be an object"),
        ({}, "lacks a field"),
        ({"text": 3}, r"PromptRequest.text must be a text, not 3"),
        ({"text": "x", "tops": 3}, "knows no 'tops'; it has text"),
        ({"text": "x", "top": True}, "top must be a whole number"),
        ({"text": "x", "top": 1.5}, "top must be a whole number"),
        ({"text": 10**400}, "text must be a text"),
        ({"text": "x", "top": 1 << 63}, "top is larger than a whole number may be"),
        ({"text": "a \ud800"}, "text is no text: it holds half a character"),
        ({"text": "x", "keep": 1}, "keep must be true or false"),
    ],
)
def test_what_is_no_request_is_refused_by_name(raw: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        decode(PromptRequest, raw)


def test_lists_and_objects_are_told_apart() -> None:
    edit = {"sae_id": "a", "feature_ids": 3}
    with pytest.raises(UsageError, match=r"edit.feature_ids must be a list"):
        decode(InterventionRequest, {"text": "x", "edit": edit})
    with pytest.raises(UsageError, match="agreement must be an object"):
        decode(AttributionResult, {"agreement": []})


def test_a_number_that_no_float_holds_is_refused() -> None:
    with pytest.raises(UsageError, match=r"EditRequest\.value is larger than a number may be"):
        decode(EditRequest, {"sae_id": "s", "feature_ids": [1], "value": 10**400})
