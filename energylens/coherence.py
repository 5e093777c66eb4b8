"""Whether the parts of an answer fit together: lists as long as what they are of, places within the
text. A worker may be another program, or another version of this one."""

from collections.abc import Iterable, Sequence
from functools import singledispatch

from energylens.errors import UsageError
from energylens.protocol import (
    AttentionResult,
    AttributionResult,
    InterventionResult,
    PromptResult,
    Reading,
    SourcesResult,
)


@singledispatch
def check(answer: object) -> None:
    """Raises UsageError where its parts contradict one another."""


@check.register
def _(answer: PromptResult) -> None:
    _check_reading(answer.reading)
    if answer.other is not None:
        _check_reading(answer.other)


def _check_reading(reading: Reading) -> None:
    n, layers = len(reading.tokens), len(reading.layers)
    if [token.pos for token in reading.tokens] != list(range(n)):
        raise _incoherent("its tokens are not in their order")
    for token in reading.tokens:
        _long("energies of a token", token.energies, layers)
        _long("continuations of a token", token.continuations, layers)
    _within("features", (feature.pos for feature in reading.features), n)
    _within("choices", (choice.pos for choice in reading.choices), n)
    for choice in reading.choices:
        _long("weights of a choice", choice.weights, len(choice.choice_ids))


@check.register
def _(answer: InterventionResult) -> None:
    n = len(answer.tokens)
    if [one.name for one in answer.conditions[:2]] != ["clean", "edited"]:
        raise _incoherent("it does not begin with the clean and the edited text")
    for one in answer.conditions:
        _long("energies", one.energies, n)
        _long("divergences", one.kl, n)
        if one.acted is not None:
            _long("tokens that were changed or not", one.acted, n)
        _long("energies by layer", one.lens_energies, len(answer.layers))
        for energies in one.lens_energies:
            _long("energies of a layer", energies, n)
    _within("tokens that were moved", (shift.pos for shift in answer.shifts), n)
    if not n:
        raise _incoherent("it has no tokens")


@check.register
def _(answer: AttributionResult) -> None:
    _within("what is explained", [answer.position], len(answer.tokens))
    _long("shares of kept features", answer.curve.faithfulness, len(answer.curve.n_features))
    _long("shares of removed features", answer.curve.completeness, len(answer.curve.n_features))


@check.register
def _(answer: AttentionResult) -> None:
    _long("rows of attention", answer.pattern, len(answer.tokens))
    for row, shares in enumerate(answer.pattern):
        if len(shares) > len(answer.tokens):
            raise _incoherent(f"token {row} attends to more tokens than there are")


@check.register
def _(answer: SourcesResult) -> None:
    for shares in answer.shares:
        _long("shares of a head", shares, len(answer.tokens))


def _long(what: str, values: Sequence[object], n: int) -> None:
    if len(values) != n:
        raise _incoherent(f"{len(values)} {what} where there should be {n}")


def _within(what: str, places: Iterable[int], n: int) -> None:
    outside = next((place for place in places if not 0 <= place < n), None)
    if outside is not None:
        raise _incoherent(f"{what} at token {outside} of {n}")


def _incoherent(why: str) -> UsageError:
    return UsageError(f"the worker's answer does not fit together: {why}")
