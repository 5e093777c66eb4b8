"""Jobs that go on when the program is closed: each a process of its own, which writes how far it is
to a small file of the state folder.

Whoever has started a job passes it a locked file, whose lock the kernel holds for as long as the
job lives: so the living are told from the dead without a look at process numbers, which come again.
"""

import fcntl
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
from platformdirs import user_state_path

State = Literal["running", "done", "failed", "cancelled", "dead"]
DEAD = (
    "its process has ended without a word: it was killed, or the machine was restarted; what it "
    "had finished is kept, and r computes the rest"
)
_REMEMBERED = 86_400.0
"""Seconds for which a job that has ended is told of."""


@dataclass(frozen=True)
class Kept:
    """What stands in the file of a job."""

    name: str
    title: str
    command: list[str]
    """What starts the worker."""
    store: str
    """As the worker calls it."""
    run: str
    method: str
    request: dict[str, Any]
    began: float
    """Seconds since 1970, as every time here."""
    host: str
    process: int = 0
    state: State = "running"
    phase: str = ""
    done: int = 0
    total: int = 0
    unit: str = ""
    seconds_left: float | None = None
    heard: float = 0.0
    """When the phase was told."""
    log: list[str] = field(default_factory=list)
    ended: float | None = None


def folder_of(store: Path) -> Path:
    """Where the jobs of a store are told of."""
    name = hashlib.sha256(str(store.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return user_state_path("energylens") / "jobs" / name


def start(folder: Path, asked: Kept) -> Kept:
    """Begin a job in a process of its own.

    Raises:
        OSError: the state folder cannot be written, or no process can be started.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{asked.name}.json"
    write(file, asked)
    lock = os.open(file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        process = subprocess.Popen(
            [sys.executable, "-m", "energylens.tui.kept_run", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # neither a closed terminal nor ctrl+c is for it
            pass_fds=(lock,),
        )
    finally:
        os.close(lock)
    threading.Thread(target=process.wait, daemon=True).start()  # or it stays a zombie
    return replace(asked, process=process.pid)


def listed(folder: Path) -> list[Kept]:
    """The jobs of a store, oldest first; those that ended long ago are forgotten."""
    found = []
    for file in sorted(folder.glob("*.json")):
        kept = read(file)
        if kept is None or (kept.ended is not None and time.time() - kept.ended > _REMEMBERED):
            for old in (file, file.with_suffix(".lock")):
                with suppress(OSError):
                    old.unlink()
        else:
            found.append(kept)
    return found


def read(file: Path) -> Kept | None:
    """What is known of a job now; None where the file does not say."""
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=Kept)
        if kept.state == "running" and kept.host == socket.gethostname() and not is_alive(file):
            # it may have written its end since
            kept = msgspec.json.decode(file.read_bytes(), type=Kept)
            if kept.state == "running":
                kept = replace(
                    kept, state="dead", ended=file.stat().st_mtime, log=[*kept.log, DEAD]
                )
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return kept


def write(file: Path, kept: Kept) -> None:
    """Put a job's file in place, whole."""
    partial = file.with_suffix(f".{os.getpid()}.partial")
    partial.write_bytes(msgspec.json.encode(kept))
    partial.replace(file)


def is_alive(file: Path) -> bool:
    """Whether the process of a job holds its lock."""
    try:
        lock = os.open(file.with_suffix(".lock"), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def stop(folder: Path, name: str) -> bool:
    """Ask a job to end; whether there is one on this machine to be asked."""
    file = folder / f"{name}.json"
    kept = read(file)
    if kept is None or kept.state != "running" or kept.host != socket.gethostname():
        return False
    if kept.process and is_alive(file):
        with suppress(OSError):
            os.kill(kept.process, signal.SIGTERM)
    return True


@contextmanager
def turn(folder: Path) -> Iterator[int]:
    """A file on which the jobs of a store wait for each other; to be locked by who wants a turn."""
    lock = os.open(folder / "turn.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        yield lock
    finally:
        os.close(lock)
