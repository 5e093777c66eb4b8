"""What the program meets: the hub, the terminal, and what the user has set."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping

from energylens.cli.doctor.finding import Finding, State
from energylens.hub import endpoint, why_unreachable

_LEAST = (60, 15)
"""Columns and lines that every view fits on."""


def look_at_hub() -> Iterator[Finding]:
    """Whether models, SAEs and texts can be fetched; asked for a second and a half at most."""
    page = "docs/install.md#the-hub"
    reason = why_unreachable()
    if reason is None:
        yield Finding("hub", "Hugging Face", State.ok, f"{endpoint()} answers", page)
        return
    yield Finding(
        "hub",
        "Hugging Face",
        State.note,
        f"{endpoint()} cannot be reached: {reason}",
        page,
        "give models, SAEs and texts as files and folders, or mend the network",
    )


def look_at_terminal() -> Iterator[Finding]:
    """Whether the screens can be shown here, in which colours, and what is set for them."""
    from energylens.tui.settings import settings_path

    page = "docs/tui.md#sizes"
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if is_terminal:
        columns, lines = shutil.get_terminal_size()
        fits = columns >= _LEAST[0] and lines >= _LEAST[1]
        advice = None if fits else "make it at least {}x{} for the screens".format(*_LEAST)
        state = State.ok if fits else State.note
        yield Finding("terminal", "size", state, f"{columns}x{lines}", page, advice)
    else:
        told = "input or output is no terminal; the screens need one"
        yield Finding("terminal", "size", State.note, told, page)
    found, advice = colours(os.environ)
    advice = advice if is_terminal else None
    state = State.ok if advice is None else State.note
    yield Finding("terminal", "colours", state, found, "docs/install.md#terminals", advice)
    path = settings_path()
    told = f"{path}{'' if path.exists() else ', which is not there: all is as it comes'}"
    yield Finding("terminal", "settings", State.ok, told, "docs/tui.md")


def colours(environment: Mapping[str, str]) -> tuple[str, str | None]:
    """The colours a terminal has by its variables, as the screens read them, and what to do for
    more of them."""
    term = environment.get("TERM", "").strip().lower()
    if "NO_COLOR" in environment:
        return "none, for NO_COLOR is set: greys and digits", None
    if term in ("dumb", "unknown"):
        return "none", f"set TERM to what your terminal is; it is '{term}'"
    if environment.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit"):
        return "24 bits", None
    if term.rpartition("-")[2] in ("256color", "kitty"):
        return "256", "set COLORTERM=truecolor if your terminal has 24 bits"
    return "16", "set TERM to xterm-256color if your terminal has 256 colours"
