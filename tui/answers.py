"""What a line from the worker says: an answer, a report, noise, or nothing that can be read."""

import json
from dataclasses import dataclass
from typing import Any

from energylens.errors import EnergyLensError
from energylens.protocol import ProgressReport
from energylens.rpc import MARK, PROGRESS
from energylens.wire import decode

MOST_BYTES = 64 << 20
"""Length of an answer; a longer one is let go by unread."""
_KNOWN = {"jsonrpc", "id", "result", "error", "progress"}
_ANOTHER = (
    "the worker does not answer in JSON-RPC 2.0, as that of this version does; make sure that the "
    "same version of Energy-Lens runs there"
)
_LARGEST = 1 << 63
_SHOWN = 2_000


@dataclass(frozen=True)
class Result:
    """A request was done."""

    number: int
    value: Any
    """Parsed JSON, of no type yet."""


@dataclass(frozen=True)
class Refusal:
    """A request was not done; `number` None where the line does not say which, or says it wrong."""

    number: int | None
    kind: str
    message: str


@dataclass(frozen=True)
class Report:
    """How far a request is. One that cannot be read is a report that says so: the answer may be
    sound all the same."""

    number: int
    progress: ProgressReport


def read_line(line: bytes, last: int) -> Result | Refusal | Report | None:
    """What a line says to the one who has made the requests 1 to `last`; None for noise, such as
    the greeting of a login shell or what a library prints."""
    try:
        return _read(json.loads(line), last)
    except (ValueError, RecursionError):
        return _unreadable(line) if line.lstrip().startswith(b"{") else None


def _read(message: Any, last: int) -> Result | Refusal | Report | None:
    if not isinstance(message, dict) or not message.keys() & _KNOWN:
        return None
    is_report = message.get("method") == PROGRESS
    if "method" in message and not is_report:
        return None  # a notification that this version does not know
    params = message.get("params") if is_report else None
    told = params if isinstance(params, dict) else {}
    number = told.get("id") if is_report else message.get("id")
    if type(number) is not int or not 0 < number <= last:
        said = _refused(None, message["error"]).message if message.get("error") else ""
        shown = said or f"it answers {json.dumps(number)[:60]}, which is no request"
        return Refusal(None, "Unreadable", f"the worker cannot be understood: {shown}")
    if any(message.get(name) != value for name, value in MARK.items()):
        return Refusal(number, "Unreadable", _ANOTHER)
    if is_report:
        return Report(number, _progress(told.get("report")))
    if "error" in message:
        return _refused(number, message["error"])
    if "result" in message:
        return Result(number, message["result"])
    return Refusal(number, "Unreadable", "the worker's answer has neither result nor error")


def _unreadable(line: bytes) -> Refusal:
    begins = line[:80].decode("utf-8", "replace").strip()
    return Refusal(None, "Unreadable", f"the worker sent a line that is no answer: {begins}")


def _refused(number: int | None, error: Any) -> Refusal:
    known = error if isinstance(error, dict) else {"message": error}
    said = known.get("message")
    message = said if isinstance(said, str) else f"the worker gives no reason: {json.dumps(error)}"
    data = known.get("data")
    kind = data.get("kind") if isinstance(data, dict) else known.get("code")
    return Refusal(number, str(kind)[:60], message[:_SHOWN])


def _progress(raw: Any) -> ProgressReport:
    try:
        report = decode(ProgressReport, raw)
    except EnergyLensError as error:
        return _silent(str(error))
    if not (0 <= report.done < _LARGEST and 0 <= report.total < _LARGEST):
        return _silent("its counts are none")
    return report


def _silent(reason: str) -> ProgressReport:
    return ProgressReport("", 0, 0, "", f"a report of the worker cannot be read: {reason}"[:_SHOWN])
