"""Records of `energylens.protocol` to lines of JSON and back."""

import json
import types
import typing
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar

from energylens.errors import UsageError

Record = TypeVar("Record")


def encode(value: object) -> str:
    """A line of JSON; NaN and infinity become null, which JSON can hold."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    return json.dumps(_finite(plain), ensure_ascii=False)


def decode(kind: type[Record], raw: Any) -> Record:
    """A record from parsed JSON.

    Raises:
        UsageError: a field is missing, unknown, or of another type; the message names it.
    """
    return _decode(kind, raw, kind.__name__)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value


def _decode(kind: Any, raw: Any, where: str) -> Any:
    if is_dataclass(kind):
        return _decode_record(kind, raw, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if raw is None and type(None) in arguments:
            return None
        kind = next(a for a in arguments if a is not type(None))
        return _decode(kind, raw, where)
    if origin in (list, tuple):
        if not isinstance(raw, list):
            raise UsageError(f"{where} must be a list")
        items = [_decode(arguments[0], item, where) for item in raw]
        return tuple(items) if origin is tuple else items
    if origin is dict:
        if not isinstance(raw, dict):
            raise UsageError(f"{where} must be an object")
        return {key: _decode(arguments[1], item, where) for key, item in raw.items()}
    if kind is float and isinstance(raw, int) and not isinstance(raw, bool):
        try:
            return float(raw)
        except OverflowError:
            raise UsageError(f"{where} is larger than a number may be") from None
    if kind is float and raw is None:
        return float("nan")
    if not isinstance(raw, kind) or (isinstance(raw, bool) and kind is not bool):
        raise UsageError(f"{where} must be {_NAMES[kind]}, not {json.dumps(raw)[:60]}")
    if isinstance(raw, str) and not _is_text(raw):
        raise UsageError(f"{where} is no text: it holds half a character")
    if isinstance(raw, int) and not -_LARGEST <= raw < _LARGEST:
        raise UsageError(f"{where} is larger than a whole number may be")
    return raw


_LARGEST = 1 << 63
"""What is read goes into tables, whose whole numbers have 64 bits."""
_NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def _is_text(raw: str) -> bool:
    """Whether it can be written: JSON may hold half a character, such as \\ud800, alone."""
    try:
        raw.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decode_record(kind: Any, raw: Any, where: str) -> Any:
    if not isinstance(raw, dict):
        raise UsageError(f"{where} must be an object")
    known = {field.name: field for field in fields(kind)}
    unknown = sorted(set(raw) - set(known))
    if unknown:
        raise UsageError(f"{where} knows no '{unknown[0]}'; it has {', '.join(known)}")
    hints = typing.get_type_hints(kind)
    try:
        return kind(**{n: _decode(hints[n], v, f"{where}.{n}") for n, v in raw.items()})
    except TypeError as error:
        raise UsageError(f"{where} lacks a field: {error}") from error
