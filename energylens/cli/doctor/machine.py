"""What the machine has: processor, graphics card, memory, disk."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from energylens.cli.doctor.finding import Finding, State

_CPUINFO = Path("/proc/cpuinfo")
_VECTORS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""What Linux calls the vector instructions that models gain from, on x86 and on ARM."""
_IN_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
_LITTLE_MEMORY, _LITTLE_DISK = 8e9, 5e9


def look_at_machine() -> Iterator[Finding]:
    """What decides how fast and how large models and stores may be."""
    yield _look_at_processor()
    if find_spec("torch") is not None:
        yield _look_at_card()
    yield _look_at_memory()
    yield _look_at_disk()


def _look_at_processor() -> Finding:
    from energylens.queries.display import counted

    has_share = hasattr(os, "sched_getaffinity")
    n_cores = len(os.sched_getaffinity(0)) if has_share else os.cpu_count() or 1
    flags = _flags()
    vectors = [name for name in _VECTORS if name in flags]
    told = f"{platform.machine()}, {counted(n_cores, 'core')}"
    if flags:
        told += f", {' '.join(vectors) or 'no vector instructions that models gain from'}"
        told += "" if _IN_BFLOAT16 & flags else "; no bfloat16, so SAEs are trained in float32"
    state = State.ok if vectors or not flags else State.note
    return Finding("machine", "processor", state, told, "docs/training.md#speed")


def _flags() -> set[str]:
    """What the processor can, as Linux tells it; nothing elsewhere."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return set()
    listed = [line.partition(":") for line in lines]
    return {
        flag
        for name, _, flags in listed
        if name.strip() in ("flags", "Features")
        for flag in flags.split()
    }


def _look_at_card() -> Finding:
    page = "docs/install.md#graphics-cards"
    try:
        import torch

        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    except Exception as error:  # a torch that cannot be imported, a driver that fails
        told = f"torch cannot tell: {type(error).__name__}: {error}"
        return Finding("machine", "graphics card", State.bad, told, page)
    told = ", ".join(names) or "none that torch can use; models run on the processor"
    return Finding("machine", "graphics card", State.ok, told, page)


def _look_at_memory() -> Finding:
    from energylens.db.limits import machine_memory
    from energylens.queries.display import size

    n_bytes = machine_memory()
    is_little = n_bytes < _LITTLE_MEMORY
    return Finding(
        "machine",
        "memory",
        State.note if is_little else State.ok,
        f"{size(n_bytes)}; a query may take half",
        "docs/install.md#memory-and-disk",
        "ask for a forecast first: energylens ingest ... --estimate" if is_little else None,
    )


def _look_at_disk() -> Finding:
    from energylens.queries.display import size

    try:
        free = shutil.disk_usage(Path.cwd()).free
    except OSError as error:
        told = f"this folder cannot be read: {error.strerror}"
        return Finding("machine", "disk", State.bad, told, "docs/install.md#memory-and-disk")
    return Finding(
        "machine",
        "disk",
        State.note if free < _LITTLE_DISK else State.ok,
        f"{size(free)} free in this folder",
        "docs/install.md#memory-and-disk",
    )
