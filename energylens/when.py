"""Conditions on tokens, such as `285>2.0` or `python_probe`: what they say, and how they are
written."""

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from energylens.choices import one_of
from energylens.errors import UsageError

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
LIKELY = 0.5
"""The probability that a probe is compared with where none is given."""
HOW = (
    "a condition is a feature with a threshold, as in '285>2.0', or the name of a category with "
    "_probe, as in 'python_probe' or 'python_probe>0.9'; before either the SAE it reads may stand, "
    "as in 'blocks.1:285>2.0'"
)

_COMPARED = re.compile(r"(?P<read>.*?)\s*(?:(?P<comparison>[<>]=?)\s*(?P<number>[^<>=]*))?", re.S)
_PROBE = "_probe"


@dataclass(frozen=True)
class When:
    """The tokens an edit acts at: those where what is read of them is above or below a threshold.
    Read is the activation of a feature, or the probability that a probe gives a category; one of
    the two is given."""

    sae_id: str = ""
    """Whose codes are read, at its own hook; empty is the SAE of the edit."""
    feature_id: int | None = None
    category: str | None = None
    comparison: str = ">"
    threshold: float = 0.0


@dataclass(frozen=True)
class WhenRate:
    """How a condition goes with a category, over tokens of the run that are not masked; None where
    there is nothing to tell, and of intervals where texts are too few."""

    category: str
    n_texts: int
    precision: float | None
    """Of the tokens at which it holds, those in texts of the category."""
    precision_low: float | None
    precision_high: float | None
    recall: float | None
    """Of the tokens in texts of the category, those at which it holds."""
    recall_low: float | None
    recall_high: float | None


@dataclass(frozen=True)
class WhenReport:
    """What a condition does on texts of the run that it was not learned on."""

    condition: str
    """As `parse_when` reads it, the SAE in full."""
    share: float
    """Of the tokens, at which it holds."""
    n_tokens: int
    n_texts: int
    rates: list[WhenRate]
    """Of a probe its own category, of a feature all."""


def parse_when(text: str) -> When:
    """The condition that a text tells; a feature alone holds where it is active, a probe alone
    where the category is more likely than not.

    Raises:
        UsageError: it tells none; the message says how one is written.
    """
    found = _COMPARED.fullmatch(text.strip())
    assert found is not None, "every text matches"
    sae_id, _, read = found["read"].rpartition(":")
    comparison = found["comparison"] or ">"
    if read.isascii() and read.isdigit():
        threshold = _number(text, found["number"], 0.0)
        return check_when(When(sae_id, _feature(text, read), None, comparison, threshold))
    category = read.removesuffix(_PROBE)
    if category in ("", read):
        raise UsageError(f"'{text}' is no condition: {HOW}")
    threshold = _number(text, found["number"], LIKELY)
    return check_when(When(sae_id, None, category, comparison, threshold))


def when_told(when: When) -> str:
    """A condition as `parse_when` reads it."""
    of = f"{when.sae_id}:" if when.sae_id else ""
    read = f"{when.category}{_PROBE}" if when.feature_id is None else when.feature_id
    threshold = repr(float(when.threshold)).removesuffix(".0")
    return f"{of}{read}{when.comparison}{threshold}"


def when_in_words(report: WhenReport) -> list[str]:
    """What a condition does on the run's texts, line by line."""
    lines = [
        f"{report.condition} holds at {100 * report.share:.3g} % of {report.n_tokens:,} tokens in "
        f"{report.n_texts:,} texts"
    ]
    for one in report.rates:
        precision = _rate(one.precision, one.precision_low, one.precision_high)
        recall = _rate(one.recall, one.recall_low, one.recall_high)
        texts = f"{one.n_texts:,} text{'' if one.n_texts == 1 else 's'}"
        lines.append(f"  {one.category} ({texts}): precision {precision}, recall {recall}")
    return lines


def _rate(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "·"
    if low is None or high is None:
        return f"{value:.2f}"
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def check_when(when: When) -> When:
    """The condition itself, once it is known that it tells one thing to compare with one number.

    Raises:
        UsageError: it does not.
    """
    if (when.feature_id is None) == (when.category is None):
        raise UsageError("a condition reads a feature or the probe of a category: give one of them")
    one_of("a condition compares by", when.comparison, tuple(COMPARISONS))
    if not math.isfinite(when.threshold):
        raise UsageError(f"a condition compares with a number, not {when.threshold}")
    if when.category is not None and not 0 <= when.threshold <= 1:
        raise UsageError(
            f"a probe gives a probability, from 0 to 1; it cannot be compared with "
            f"{when.threshold:g}"
        )
    return when


def _feature(text: str, digits: str) -> int:
    if len(digits) > 18:
        raise UsageError(f"'{text}' is no condition: no SAE has so many features")
    return int(digits)


def _number(text: str, given: str | None, otherwise: float) -> float:
    if given is None:
        return otherwise
    try:
        return float(given)
    except ValueError:
        raise UsageError(
            f"'{text}' is no condition: '{given.strip()}' is no number to compare with; {HOW}"
        ) from None
