"""Numbers and tokens on one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from energylens.queries.display import (
    number,
    show_probability,
    size,
    visible,
    visible_lines,
    visible_token,
)


@given(st.text())
def test_visible_text_is_one_line_without_controls(text: str) -> None:
    shown = visible(text)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert not any(c in shown for c in "\u202e\u2066\u200f")


@pytest.mark.parametrize(
    ("piece", "shown"),
    [
        (" the", "␣the"), ("the ", "the␣"), ("  ", "␣␣"), ("\n\n", "⏎⏎"), ("", "∅"),
        ("a b", "a b"), ("\t", "⇥"), ("🐕", "🐕"), ("\x1b[31m", "␛[31m"), ("👩‍👧", "👩‍👧"),
    ],
)  # fmt: skip
def test_tokens(piece: str, shown: str) -> None:
    assert visible_token(piece) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "·"), (float("nan"), "·"), (0, "0"), (0.0, "0"), (12345, "12,345"), (True, "yes"),
        (0.12345, "0.123"), (3.14159, "3.142"), (1234.5, "1,234.5"), (1e-9, "1.0e-09"),
        (2.5e9, "2.5e+09"), (-0.5, "-0.500"),
    ],
)  # fmt: skip
def test_numbers(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_sizes() -> None:
    assert [size(n) for n in (12, 2_500, 3_000_000_000)] == ["12 B", "2.5 kB", "3.0 GB"]


def test_a_probability_is_never_zero_and_starred_where_it_is_small() -> None:
    shown = [show_probability(v) for v in (None, 0.0, 1e-12, 0.0312, 0.05, 1.0)]
    assert shown == ["·", "<1e-300*", "1e-12*", "0.031*", "0.050 ", "1.000 "]


@given(st.text())
def test_lines_stay_lines_and_nothing_else_moves_the_cursor(text: str) -> None:
    shown = visible_lines(text)
    assert shown.count("\n") == text.count("\n")
    for one, other in zip(shown.split("\n"), text.split("\n"), strict=True):
        assert one == visible(other)


def test_what_a_terminal_would_obey_or_hide_is_written_out() -> None:
    told = {
        "\x1b]0;title\x07": "␛]0;title\\x07",
        "\x9b31m": "\\x9b31m",
        "a\u202eb": "a\\u202eb",
        "a\u200bb": "a\\u200bb",
        "pay\u200dpal": "pay\\u200dpal",
        "\u3164": "\\u3164",
        "\U000e0041": "\\U000e0041",
        "\ud800": "\\ud800",
        "👩\u200d🚀": "👩\u200d🚀",
        "❤️\u200d🔥": "❤️\u200d🔥",
        "naïve": "naïve",
    }
    assert {text: visible(text) for text in told} == told
