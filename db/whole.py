"""Files that appear whole or not at all, and what is said where the disk refuses them."""

import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from energylens.errors import StoreError

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_HERE, _SWAP = -100, 2
"""AT_FDCWD, and RENAME_EXCHANGE of Linux as RENAME_SWAP of macOS."""
_NO_LEAVE = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def writing(what: str, safe: str = "what was there before is untouched") -> Iterator[None]:
    """Within the block the disk's refusals become sentences.

    Raises:
        StoreError: the disk is full or cannot be written; the message names `what`, says what is
            `safe`, and what to do.
    """
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read our messages has gone, which is not the disk's fault
    except OSError as error:
        raise StoreError(
            f"cannot write {what}: {error.strerror or error}; {safe}; {_advice(error)}, then run "
            "the same command again"
        ) from error


def _advice(error: OSError) -> str:
    if error.errno in _NO_ROOM:
        return "make room on the disk"
    if error.errno in _NO_LEAVE:
        return "take the write protection off, or work on a copy of the store"
    if error.errno == errno.ENAMETOOLONG:
        return "name a place with a shorter path"
    return "make sure that the disk is there and can be written"


def partial_of(path: Path) -> Path:
    """Where a file or directory grows until it is whole: hidden, and always the same name, so that
    the next writer replaces what a killed one left."""
    return path.with_name(f".{path.name}.partial")


def fresh_partial(path: Path) -> Path:
    """`partial_of`, with nothing there: a link that a stranger's store has in this place would be
    written through."""
    partial = partial_of(path)
    discard(partial)
    return partial


def discard(path: Path) -> None:
    """Remove a file, a link or a directory, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def open_plain(path: Path) -> BufferedReader:
    """Open a file of a store to read it. A pipe would be waited for, and a link leads elsewhere.

    Raises:
        OSError: it is neither, or cannot be read.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, "it is a link; put what it leads to in its place", str(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.EINVAL, "it is no plain file", str(path))


def write_whole(path: Path, text: str) -> None:
    """Replace a text file, flushed to the disk; on an error what was there stays.

    Whoever calls it holds the claim of the file.
    """
    partial = fresh_partial(path)
    try:
        partial.write_text(text, encoding="utf-8")
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def exchange(one: Path, other: Path) -> bool:
    """Swap the names of two directories in one step, so that there is no moment without either;
    false where the system or the file system cannot."""
    libc = ctypes.CDLL(None)
    names = (os.fsencode(one), os.fsencode(other))
    if hasattr(libc, "renameat2"):
        return bool(libc.renameat2(_HERE, names[0], _HERE, names[1], _SWAP) == 0)
    if hasattr(libc, "renamex_np"):  # macOS
        return bool(libc.renamex_np(*names, _SWAP) == 0)
    return False


def sync(path: Path) -> None:
    """Make the kernel write a file or a directory to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
