"""What the doctor finds: one line each, with the page that helps."""

import enum
from dataclasses import dataclass


class State(enum.StrEnum):
    """How it stands with a thing."""

    ok = "ok"
    note = "note"
    """Something is missing or limited, and all else works."""
    bad = "bad"
    """Something that should work does not."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    part: str
    """What it belongs to: installed, extras, machine, hub, terminal or store."""
    name: str
    state: State
    found: str
    page: str
    """The page of the documentation that tells more, with the section."""
    advice: str | None = None
    """What to do; None where there is nothing to do."""
