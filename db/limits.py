"""How much a user's query may take: seconds and memory."""

import os
import re
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from energylens.errors import UsageError

SECONDS = 300.0
"""How long a query runs where nobody said."""
LEAST_MEMORY = 64 * 2**20
_CGROUP = Path("/sys/fs/cgroup/memory.max")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def machine_memory() -> int:
    """Bytes of memory this process can hope for: the machine's, or its container's."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(machine, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return machine


def default_memory() -> int:
    """Half of what there is: the other half is for models, screens and the system."""
    return max(LEAST_MEMORY, machine_memory() // 2)


@dataclass(frozen=True)
class Limits:
    """What a query may take."""

    seconds: float | None = SECONDS
    """None lets it run for ever."""
    memory: int = field(default_factory=default_memory)
    """Bytes; what needs more is written to temporary files, or ended."""


def parse_memory(text: str) -> int:
    """Bytes of `2GB`, `512 MiB` or `25%` of the machine's memory.

    Raises:
        UsageError: it is none of these, or too little to run anything.
    """
    found = re.fullmatch(
        r"(\d{1,12}(?:\.\d{1,6})?)\s*(?:(%)|([kmgt]?)(i?)b?)", text.strip().lower()
    )
    if found is None:
        raise UsageError(f"'{text}' is no amount of memory; give one as in 2GB, 512MiB or 25%")
    number, percent, unit, binary = float(found[1]), found[2], found[3] or "", found[4]
    one = machine_memory() / 100 if percent else (_BINARY if binary and unit else _UNITS)[unit]
    n_bytes = int(number * one)
    if n_bytes < LEAST_MEMORY:
        raise UsageError(f"'{text}' is too little memory for a query; the least is 64MiB")
    return n_bytes


def spill_bytes(folder: Path | None = None) -> int:
    """What queries may write to temporary files, in the system's folder for them or in another:
    half of the free disk there."""
    return shutil.disk_usage(folder or tempfile.gettempdir()).free // 2


def resident_bytes() -> int | None:
    """Memory this process holds; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
