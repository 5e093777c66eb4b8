"""Tokens and numbers as a person reads them on one line."""

import unicodedata
from decimal import Decimal

_MARKS = {"\n": "⏎", "\r": "␍", "\t": "⇥", "\0": "␀", "\x1b": "␛", "\x7f": "␡"}


def visible(text: str) -> str:
    """Text on one line: line breaks and tabs as marks, other control characters as \\xNN.

    Format characters that would reorder or hide what stands beside them are written out too.
    """
    return "".join(map(_shown, text))


def visible_token(piece: str) -> str:
    """A token alone: as `visible`, its outer spaces as ␣ so that they can be seen."""
    if not piece:
        return "∅"
    left = len(piece) - len(piece.lstrip(" "))
    right = len(piece) - len(piece.rstrip(" ")) if left < len(piece) else 0
    return "␣" * left + visible(piece[left : len(piece) - right]) + "␣" * right


def _shown(character: str) -> str:
    if character in _MARKS:
        return _MARKS[character]
    category = unicodedata.category(character)
    if category == "Cf" and character != "\u200d":  # a joiner belongs to its emoji
        return f"\\u{ord(character):04x}"
    if category in ("Cc", "Cs"):
        return f"\\x{ord(character):02x}"
    return "⏎" if category in ("Zl", "Zp") else character


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
