"""Whether a lock that one machine takes on a file system is seen by the others that share it."""

import os
from dataclasses import dataclass
from pathlib import Path

from energylens.errors import StoreError

_MOUNTS = Path("/proc/self/mountinfo")
_BUCKETS = {"fuse.gcsfuse", "fuse.geesefs", "fuse.goofys", "fuse.mountpoint-s3", "fuse.rclone"}
_ALONE = {"fuse.s3fs", "fuse.sshfs", *_BUCKETS}
"""Kinds that leave `flock` to the machine that asks."""
_OPTIONS = {"localflock", "local_lock=all", "local_lock=flock", "nolock"}
"""Of Lustre and NFS, with which they do so too (lustre's mount(8), nfs(5))."""


@dataclass(frozen=True)
class Mount:
    """A file system as this machine has it."""

    place: str
    kind: str
    options: frozenset[str]


def refuse_lonely_locks(path: Path) -> None:
    """Refuse a directory whose locks no other machine sees, where this can be known.

    Raises:
        StoreError: of two machines, both could hold the same lock there.
    """
    mount = mount_of(path)
    why = _OPTIONS & mount.options if mount is not None else ()
    if mount is not None and (why or mount.kind in _ALONE):
        options = f", mounted with {', '.join(sorted(why))}" if why else ""
        raise StoreError(
            f"locks on '{mount.place}' ({mount.kind}{options}) are seen by this machine alone, so "
            "that two would make the same shard; share a file system with locks, or give each "
            "machine a store of its own and --shard I/N, and merge them"
        )


def mount_of(path: Path) -> Mount | None:
    """What a directory that exists lies on; None where the system does not list it."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = _MOUNTS.read_text("utf-8", errors="replace").splitlines()
    except OSError:  # no Linux
        return None
    for line in reversed(lines):  # of two on one place, the later is seen
        before, _, after = line.partition(" - ")
        fields, rest = before.split(), after.split()
        if len(fields) >= 6 and len(rest) >= 3 and fields[2] == wanted:
            options = (*fields[5].split(","), *rest[2].split(","))
            return Mount(fields[4], rest[0], frozenset(options))
    return None
