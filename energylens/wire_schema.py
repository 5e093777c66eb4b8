"""The worker's methods as an OpenRPC document, and their records as JSON Schema.

Made from the records themselves, with what `energylens.wire` takes and writes: an object has no
other fields, a number may be null, which stands for NaN, and a whole number has 64 bits. What a
field means is the text below it in the source.
"""

import ast
import inspect
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any

from energylens.methods import METHODS, Method
from energylens.protocol import ProgressReport
from energylens.rpc import CODES, MARK, PROGRESS, VERSION

_PLAIN: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    float: {"type": ["number", "null"]},
    type(None): {"type": "null"},
    int: {"type": "integer", "minimum": -(1 << 63), "maximum": (1 << 63) - 1},
}


def openrpc() -> dict[str, Any]:
    """All methods and records; https://spec.open-rpc.org describes the form."""
    return {
        "openrpc": "1.3.2",
        "info": {
            "title": "energylens worker",
            "description": f"JSON-RPC {MARK['jsonrpc']}, one message a line, on stdin and stdout.",
            "version": str(VERSION),
        },
        "methods": [_method(method) for method in METHODS],
        "x-notifications": [
            {
                "name": PROGRESS,
                "summary": "how far a request is",
                "params": [
                    _named("id", {"type": ["string", "integer"]}),
                    _named("report", schema_of(ProgressReport)),
                ],
            }
        ],
        "components": {"schemas": {record.__name__: record_schema(record) for record in records()}},
    }


def _method(method: Method) -> dict[str, Any]:
    return {
        "name": method.name,
        "summary": method.what,
        "paramStructure": "by-name",
        "params": list(_params(method)),
        "result": _named("result", schema_of(method.result)),
        "errors": [{"code": code, "message": said} for code, said in CODES.items()],
    }


def _params(method: Method) -> Iterator[dict[str, Any]]:
    if method.has_place:
        yield _named("store", {"type": "string", "description": "The path of a store."})
        yield _named("run", {"type": "string", "description": "A run, or how its name begins."})
        if method.request is not None:
            yield _named("request", schema_of(method.request))
    elif method.request is not None:
        schema = record_schema(method.request)
        yield from (_named(name, one) for name, one in schema["properties"].items())


def _named(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "required": True, "schema": schema}


def records() -> list[type]:
    """Every record that is asked or answered, each after those that hold it."""
    found: dict[type, None] = {}
    todo = [kind for m in METHODS for kind in (m.request, m.result) if kind is not None]
    for kind in (*todo, ProgressReport):
        found.update(dict.fromkeys(_held(kind)))
    return list(found)


def _held(kind: Any) -> Iterator[type]:
    if is_dataclass(kind) and isinstance(kind, type):
        yield kind
        for hint in typing.get_type_hints(kind).values():
            yield from _held(hint)
    for argument in typing.get_args(kind):
        yield from _held(argument)


def record_schema(record: type) -> dict[str, Any]:
    """JSON Schema of one record."""
    hints, said = typing.get_type_hints(record), field_docs(record)
    known = fields(record)  # type: ignore[arg-type]
    return {
        "type": "object",
        "description": _line(record.__doc__ or ""),
        "additionalProperties": False,
        "required": [field.name for field in known if _is_required(field)],
        "properties": {
            field.name: schema_of(hints[field.name])
            | ({"description": said[field.name]} if field.name in said else {})
            | ({} if _is_required(field) else {"default": field.default})
            for field in known
        },
    }


def _is_required(field: Field[Any]) -> bool:
    return field.default is MISSING


def schema_of(kind: Any) -> dict[str, Any]:
    """JSON Schema of a type that records may hold."""
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return {"$ref": f"#/components/schemas/{kind.__name__}"}
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [schema_of(one) for one in of]}
    if origin in (list, tuple):
        return {"type": "array", "items": schema_of(of[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(of[1])}
    return dict(_PLAIN[kind])


@cache
def _documented(module: str) -> dict[str, dict[str, str]]:
    """What the source of a module says below each field of its classes."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(node, ast.ClassDef):
            said = found.setdefault(node.name, {})
            for one, after in zip(node.body, node.body[1:], strict=False):
                if not (isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)):
                    continue
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    said[one.target.id] = _line(str(after.value.value))
    return found


def field_docs(record: type) -> dict[str, str]:
    """What is said of the fields of a record, where something is."""
    return _documented(record.__module__)[record.__name__]


def _line(text: str) -> str:
    return " ".join(text.split())
