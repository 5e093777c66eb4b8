"""One writer at a time, held by the kernel: a process that dies lets go of what it claimed."""

import errno
import os
import re
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from energylens.db.layout import RunLayout
from energylens.db.records import RecordError, refuse_links
from energylens.db.whole import open_plain, writing
from energylens.errors import PlatformError, StoreBusyError, StoreDamagedError, StoreError

try:
    import fcntl
except ModuleNotFoundError:
    raise PlatformError from None

PATIENCE = 10.0
"""Seconds to wait for another process whose change takes milliseconds."""
_BREATH = 0.01
"""Seconds between two tries."""
_MOST_BYTES = 300
"""Of a lock file; more is not ours."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP}
_HOLDER = re.compile(r"process (\d+)(?: on (.+))?")


@dataclass(frozen=True)
class Holder:
    """Who wrote a lock file."""

    process: int
    host: str


@contextmanager
def claim(path: Path, what: str, advice: str, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock file for as long as the block runs; its directory is made where it is missing.

    `patience` is how many seconds to wait for a holder that is about to finish; of several who
    come one after another, for each.

    Raises:
        StoreBusyError: another process holds it; the message names `what` and ends in `advice`.
        StoreError: the lock file cannot be written.
    """
    descriptor = _hold(path, what, advice, patience)
    try:
        yield
    finally:
        with suppress(OSError):
            if _is_at(path, descriptor):
                path.unlink()
        os.close(descriptor)


def claim_run(run: RunLayout) -> AbstractContextManager[None]:
    """Keep others from changing what is known of a run: its record, its notes, its explanations.
    Shards and indexes, which take long, have claims of their own.

    Raises:
        StoreBusyError: another process has held it for too long.
        StoreError: the store cannot be written.
    """
    return claim(run.lock, f"what is known of the run '{run.root.name}'", "try again", PATIENCE)


def _hold(path: Path, what: str, advice: str, patience: float) -> int:
    """A descriptor of the file that lies at `path`, locked.

    The holder removes the file before it lets go. Who opened it before that locks a file that is
    no longer there, notices, and tries again with the one that is.
    """
    try:
        refuse_links(path)
    except RecordError as error:
        raise StoreDamagedError(f"nothing is written to '{path.parent}': {error}") from error
    in_the_way, until = None, 0.0
    while True:
        with writing(f"to '{path.parent}'"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
            except FileNotFoundError:  # the directory was empty, and another process cleared it
                continue
        try:
            with writing(f"the lock '{path}'"):
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise StoreDamagedError(f"'{path}' is no plain file; take it away")
                is_locked = _lock(descriptor)
                if is_locked and _is_at(path, descriptor):
                    os.ftruncate(descriptor, 0)
                    me = f"process {os.getpid()} on {socket.gethostname()}"
                    os.pwrite(descriptor, me.encode(), 0)
                    held, descriptor = descriptor, -1
                    return held
            if not is_locked and in_the_way != (now := _which(descriptor)):
                in_the_way, until = now, time.monotonic() + patience
            if not is_locked and time.monotonic() >= until:
                holder = os.pread(descriptor, _MOST_BYTES, 0).decode(errors="replace")
                raise StoreBusyError(
                    f"{what} is being written by {holder or 'another process'}; {advice}"
                )
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        if not is_locked:
            time.sleep(_BREATH)


def _lock(descriptor: int) -> bool:
    """Whether nobody else holds the file; also of one that another machine has removed from NFS
    meanwhile, which lies nowhere any more."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise StoreError(
                f"the file system has no locks ({error.strerror}), by which the writers of a store "
                "keep out of each other's way; mount it with them, or write to another disk"
            ) from error
        if error.errno != errno.ESTALE:
            raise
    return True


def _which(descriptor: int) -> tuple[int, int]:
    """What tells the lock file of one holder from that of the next: each has its own."""
    found = os.fstat(descriptor)
    return found.st_ino, found.st_ctime_ns


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one that lies at `path`; opened anew, for until then NFS may
    give what lay there some time ago."""
    try:
        there = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            return os.path.sameopenfile(there, descriptor)
        finally:
            os.close(there)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise


def holder_of(lock: Path) -> Holder | None:
    """Who wrote a lock file; None where there is none, or where it does not say."""
    try:
        with open_plain(lock) as file:
            found = _HOLDER.fullmatch(file.read(_MOST_BYTES).decode(errors="replace"))
    except OSError:
        return None
    return None if found is None else Holder(int(found[1]), found[2] or socket.gethostname())


def is_elsewhere(holder: Holder | None) -> bool:
    """Whether a lock was written on another machine, whose locks this one may not see."""
    return holder is not None and holder.host != socket.gethostname()
