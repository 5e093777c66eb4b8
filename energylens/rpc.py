"""Messages of JSON-RPC 2.0 (https://www.jsonrpc.org/specification) as the worker and those who ask
it send them: one JSON object a line, in UTF-8.

A request has `id`, `method` and `params`, its answer the same id and `result` or `error`. What
comes before the answer are notifications, which have no id of their own.
"""

from typing import Any

VERSION = 2
"""Of the worker's methods and records; grows when an older reader would misread an answer."""
MOST_BYTES = 1 << 20
"""Length of a request line; longer ones are refused."""
MARK = {"jsonrpc": "2.0"}
"""What every message holds."""
PROGRESS = "progress"
"""The notification that tells how far a request is."""

NO_JSON, NO_REQUEST, NO_METHOD, BAD_PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
"""Codes of the specification."""
REFUSED = -32000
"""A request that was understood and cannot be done."""
CANCELLED = -32800
"""As in the Language Server Protocol; the specification has none for it."""

CODES = {
    NO_JSON: "the line is no JSON",
    NO_REQUEST: "it is no request of JSON-RPC 2.0, or may not be made now",
    NO_METHOD: "there is no such method",
    BAD_PARAMS: "params lack something, or hold something of another type",
    INTERNAL: "the worker failed at it, and goes on",
    REFUSED: "it was understood and cannot be done; the message says why",
    CANCELLED: "it was cancelled",
}
"""What each code says."""

Id = str | int


def request(number: Id, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """A request, which is answered."""
    return {**MARK, "id": number, "method": method, "params": params}


def result(number: Id, value: object) -> dict[str, Any]:
    """The answer of a request that was done."""
    return {**MARK, "id": number, "result": value}


def error(number: Id | None, code: int, kind: str, message: str) -> dict[str, Any]:
    """The answer of a request that was not done; `number` None where the line does not say."""
    told = {"code": code, "message": message, "data": {"kind": kind}}
    return {**MARK, "id": number, "error": told}


def progress(number: Id, report: dict[str, Any]) -> dict[str, Any]:
    """How far a request is."""
    return {**MARK, "method": PROGRESS, "params": {"id": number, "report": report}}
