"""Changes to what a program expects: of single bytes, of values in JSON, of whole parts."""

import json
import random
from typing import Any

ODD_TEXTS = (
    "", "\0", "a\0b", "\ufeffx", "\udcff", "\ud800", "\x1b]0;x\x07", "\x1b]52;c;eA==\x1b\\",
    "\x1b]8;;http://x\x1b\\", "\x9b7m", "\u202e", "\u2066", "\u200b", "../../x", "/x", "..", ".",
    "[bold]x[/]", "x" * 5000, "1" * 5000, "-1", "NaN", "inf", "$x", "{}", "'", '"', "%s", "\\",
    "²", "٣", "1e999", "0x10", "9999-12-31", "294247-01-10 04:00:55", "a/b", "\r\n", "\t",
)  # fmt: skip
"""Texts as nobody would write them."""
ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, -0.0, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**400,
    1e308, 5e-324, float("nan"), float("inf"), [], {}, [[]], [None], {"": 1}, *ODD_TEXTS,
)  # fmt: skip
ODD_BYTES = (
    b"\0", b"\xff", b"\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\x1b", b"\xc2\x9b", b"\n", b"\r\n",
    b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b",", b":", b"=", b";", b"(", b")", b"*", b"--",
    b"/*", b"1" * 5000, b"[" * 3000, b"(" * 500, b"\xe2\x80\xae", b"\xef\xbb\xbf", b"NaN", b"-",
    b"1e999", b"\x7f", b"\x80\0\0\0", b"\xff\xff\xff\x7f", b"\xff" * 8,
)  # fmt: skip


def mutated(seeds: tuple[bytes, ...], by: random.Random) -> bytes:
    """A seed after one to four changes, always the same for the same state of `by`."""
    content = by.choice(seeds)
    for _ in range(by.choice((1, 1, 1, 2, 3, 4))):
        content = by.choice((_in_json, _in_json, _bytes, _cut, _twice, _spliced))(
            content, seeds, by
        )
    return content


def _in_json(content: bytes, seeds: tuple[bytes, ...], by: random.Random) -> bytes:
    """One value of one line of JSON is another; bytes, where it is none."""
    lines = content.split(b"\n")
    place = by.randrange(len(lines))
    try:
        raw = json.loads(lines[place])
        lines[place] = json.dumps(_changed(raw, by), ensure_ascii=by.random() < 0.5).encode(
            "utf-8", "surrogatepass"
        )
    except (ValueError, RecursionError):
        return _bytes(content, seeds, by)
    return b"\n".join(lines)


def _changed(raw: Any, by: random.Random) -> Any:
    if isinstance(raw, dict) and raw and by.random() < 0.9:
        name = by.choice(list(raw))
        match by.randrange(8):
            case 0:
                return {key: value for key, value in raw.items() if key != name}
            case 1:
                return {**raw, by.choice(ODD_TEXTS): by.choice(ODD_VALUES)}
        return {**raw, name: _changed(raw[name], by)}
    if isinstance(raw, list) and raw and by.random() < 0.8:
        place = by.randrange(len(raw))
        match by.randrange(8):
            case 0:
                return raw[:place] + raw[place + 1 :]
            case 1:
                return [*raw, raw[place]]
        return [*raw[:place], _changed(raw[place], by), *raw[place + 1 :]]
    return by.choice(ODD_VALUES)


def _bytes(content: bytes, seeds: tuple[bytes, ...], by: random.Random) -> bytes:
    place = by.randint(0, len(content))
    new = by.choice(ODD_BYTES) if by.random() < 0.5 else by.randbytes(by.choice((1, 1, 2, 4)))
    return content[:place] + new + content[place + by.choice((0, 1, 1, len(new))) :]


def _cut(content: bytes, seeds: tuple[bytes, ...], by: random.Random) -> bytes:
    first, end = sorted((by.randint(0, len(content)), by.randint(0, len(content))))
    return by.choice((content[:first], content[end:], content[:first] + content[end:]))


def _twice(content: bytes, seeds: tuple[bytes, ...], by: random.Random) -> bytes:
    first, end = sorted((by.randint(0, len(content)), by.randint(0, len(content))))
    return content[:end] + content[first:end] * by.choice((1, 1, 2, 40)) + content[end:]


def _spliced(content: bytes, seeds: tuple[bytes, ...], by: random.Random) -> bytes:
    other = by.choice(seeds)
    return content[: by.randint(0, len(content))] + other[by.randint(0, len(other)) :]
