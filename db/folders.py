"""Folders that a command makes for its user: pages, reports, trees of other tools' files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from energylens.db.claim import claim
from energylens.db.whole import discard, fresh_partial, writing
from energylens.errors import UsageError


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill, which takes its place when the block ends well.

    Raises:
        UsageError: it is there already.
        StoreBusyError: another process is making it.
        StoreError: the disk cannot be written; nothing is left of the folder.
    """
    _check_free(folder)
    lock = folder.with_name(f".{folder.name}.lock")
    with (
        writing(f"'{folder}'", "nothing is left of it"),
        claim(lock, f"'{folder}'", "wait for it, or name another folder"),
    ):
        _check_free(folder)  # who held the claim before may have made it
        tree = fresh_partial(folder)
        try:
            tree.mkdir()
            yield tree
            tree.rename(folder)
        finally:
            discard(tree)


def _check_free(folder: Path) -> None:
    if folder.exists():
        raise UsageError(f"'{folder}' is there already; name a folder that is not")
