"""One writer at a time, held by the kernel: a process that dies lets go of what it claimed."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from energylens.errors import StoreBusyError


@contextmanager
def claim(path: Path, what: str, advice: str) -> Iterator[None]:
    """Hold a lock file for as long as the block runs.

    Raises:
        StoreBusyError: another process holds it; the message names `what` and ends in `advice`.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 100).decode() or "another process"
            raise StoreBusyError(f"{what} is being written by {holder}; {advice}") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()}".encode())
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
