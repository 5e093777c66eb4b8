"""A worker as nobody wants it: it lies in the right form and in none, stalls, and dies.

    python -m tests.tui.bad_worker SEED STARTS

STARTS is a file that grows by a byte with every start: each start lies otherwise.
"""

import json
import os
import random
import sys
import types
import typing
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from energylens.protocol import (
    AttentionResult,
    AttributionResult,
    DoneResult,
    InterventionResult,
    LoadResult,
    PromptResult,
    SourcesResult,
    SteeringResult,
)
from energylens.rpc import error, progress, result

ANSWERS: dict[str, type] = {
    "load": LoadResult,
    "prompt": PromptResult,
    "intervene": InterventionResult,
    "steer": SteeringResult,
    "attribute": AttributionResult,
    "attention": AttentionResult,
    "sources": SourcesResult,
}
INTS = (-1, 0, 0, 1, 1, 2, 3, 7, 41, 2**31, 2**63, -(2**63), 10**30)
FLOATS = (0.0, 0.0, 1.0, -1.0, 0.25, 3.5, 1e-300, 1e308, -1e308, float("nan"), float("inf"))
STRINGS = (
    "", " cat", "the", "[red]x[/]", "\x1b]0;x\x07", "\x00", "a\nb\tc", "\u202e", "\ud800", "一二三",
    "x" * 5_000, "one", "mlp", "clean", "edited", "flipped", "noise", "like", "' OR 1=1; --",
)  # fmt: skip


def lie(kind: Any, by: random.Random, length: int | None = None) -> Any:
    """A value of a type that means nothing; its lists are of one length, or each of its own."""
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{name: lie(hint, by, length) for name, hint in hints.items()})  # type: ignore[operator]
    if origin in (list, tuple):
        n = by.choice((0, 1, 2, 3, 8, 20)) if length is None else length
        return [lie(of[0], by, length) for _ in range(n)]
    if origin is dict:
        return {lie(of[0], by): lie(of[1], by) for _ in range(by.randrange(3))}
    if origin in (types.UnionType, typing.Union):
        return lie(by.choice(of), by, length)
    if kind is type(None):
        return None
    return by.choice({int: INTS, float: FLOATS, str: STRINGS, bool: (True, False)}[kind])


def shapeless(by: random.Random) -> str:
    """A line that is no answer, or a strange one."""
    line = by.choice(
        (
            "", "null", "[1, 2]", "Last login: today", '{J, "id": ID}', '{J, "id": ID, "error": 5}',
            '{J, "id": ID, "result": [[[[1]]]]}', '{J, "id": ID, "result": {"reading": "x"}}',
            '{J, "method": "progress", "params": {"id": ID, "report": {"phase": 5}}}',
            '{J, "method": "progress", "params": [ID]}', '{J, "method": 5}',
            '{J, "id": -4, "result": 1}', '{J, "id": "ID"}', '{"id": ID, "result": 1}',
            '{J, "id": ID, "result": ' + "[" * 5_000, '{J, "id": ID, "result": {}}',
        )
    )  # fmt: skip
    return line.replace("J", '"jsonrpc": "2.0"')


def answer(number: int, method: str, by: random.Random) -> None:
    """One of many bad ends."""
    for _ in range(by.choice((0, 0, 1, 5))):
        report = {"phase": lie(str, by), "done": lie(int, by), "total": lie(int, by), "unit": "t"}
        say(json.dumps(progress(number, report | {"message": lie(str | None, by)})))
    end = by.random()
    if end < 0.5:
        record = ANSWERS.get(method, DoneResult)
        told = lie(record, by, by.choice((None, 1, 3, 8)))
        say(json.dumps(result(number, asdict(told))))
    elif end < 0.65:
        say(shapeless(by).replace("ID", str(number)))
    elif end < 0.8:
        kind = by.choice(("UsageError", "Cancelled", "x"))
        say(json.dumps(error(number, lie(int, by), kind, lie(str, by))))
    elif end < 0.9:
        os.write(1, f'{{"jsonrpc": "2.0", "id": {number}, "resu'.encode())
        os._exit(by.choice((0, 1, 137)))


def say(line: str) -> None:
    sys.stdout.buffer.write(line.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    starts = Path(sys.argv[2])
    with starts.open("ab") as file:
        file.write(b".")
    by = random.Random(f"{sys.argv[1]} {starts.stat().st_size}")
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["method"] != "cancel" or by.random() < 0.5:
            answer(asked["id"], asked["method"], by)


if __name__ == "__main__":
    main()
