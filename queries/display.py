"""Tokens and numbers as a person reads them on one line."""

import unicodedata
from decimal import Decimal

_MARKS = {"\n": "⏎", "\r": "␍", "\t": "⇥", "\0": "␀", "\x1b": "␛", "\x7f": "␡"}
_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
"""Letters and marks of no width; format characters have a category of their own."""
_JOINER = "\u200d"


def visible(text: str) -> str:
    """Text on one line: line breaks and tabs as marks, other control characters as \\xNN.

    Format characters that would reorder or hide what stands beside them are written out too.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_shown, text, f" {text}"))


def visible_lines(text: str) -> str:
    """Text as a terminal may show it: as `visible`, but lines stay lines.

    Everything that comes from data goes through this or `visible` on its way to a terminal.
    """
    return "\n".join(map(visible, text.split("\n")))


def is_plain(text: str) -> bool:
    """Whether every character is one that a terminal draws, and draws where it stands."""
    if text.isprintable() and _INVISIBLE.isdisjoint(text):
        return True
    return not any(map(_is_hidden, text, f" {text}"))


def in_one_cell(text: str) -> str:
    """Text with a sign of one cell for each character that `visible` writes out."""
    return "".join(map(_sign, text, f" {text}"))


def visible_token(piece: str) -> str:
    """A token alone: as `visible`, its outer spaces as ␣ so that they can be seen."""
    if not piece:
        return "∅"
    left = len(piece) - len(piece.lstrip(" "))
    right = len(piece) - len(piece.rstrip(" ")) if left < len(piece) else 0
    return "␣" * left + visible(piece[left : len(piece) - right]) + "␣" * right


def _shown(character: str, before: str) -> str:
    if character in _MARKS:
        return _MARKS[character]
    if character == _JOINER and _is_in_emoji(before):
        return character
    category = unicodedata.category(character)
    if category in ("Zl", "Zp"):
        return "⏎"
    if category in ("Cc", "Cs", "Cf") or character in _INVISIBLE:
        return _written_out(ord(character))
    return character


def _is_hidden(character: str, before: str) -> bool:
    return _shown(character, before) != character


def _sign(character: str, before: str) -> str:
    if not _is_hidden(character, before):
        return character
    return _MARKS.get(character, "\N{REPLACEMENT CHARACTER}")


def _is_in_emoji(before: str) -> bool:
    """Whether a joiner behind this character makes one picture of two."""
    return unicodedata.category(before) in ("So", "Sk") or before == "\ufe0f"


def _written_out(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def number(value: float | int | Decimal | None, digits: int = 3) -> str:
    """A number in few characters; None is a dot, which no number is."""
    if value is None or value != value:
        return "·"
    if isinstance(value, Decimal):  # what SQL's sum makes of whole numbers
        value = int(value) if value == int(value) else float(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.{max(0, digits - 2)}e}"
    if abs(value) >= 10 ** (digits - 1):
        return f"{value:,.1f}"
    return f"{value:.{digits}f}"


def counted(n: int, what: str) -> str:
    """So many of something."""
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def show_probability(value: float | None) -> str:
    """A p or q: `<1e-300` rather than 0, with a star below 0.05."""
    if value is None:
        return "·"
    shown = "<1e-300" if value < 1e-300 else f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"
    return f"{shown}*" if value < 0.05 else f"{shown} "


def size(n_bytes: float) -> str:
    """Bytes in the unit a person would use."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds; tenths below ten."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
