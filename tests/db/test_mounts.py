"""A file system whose locks stay on one machine is told from one whose locks are shared."""

import os
from pathlib import Path

import pytest

from energylens.db import mounts
from energylens.errors import StoreError


def listed(tmp_path: Path, kind: str, options: str, more: str) -> Path:
    """A list of mounts in which `tmp_path` lies on such a file system."""
    device = tmp_path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    lines = (
        "22 1 0:99999 / / rw,relatime shared:1 - ext4 /dev/vda rw",
        "short",
        f"40 22 {number} / /share {options} - {kind} box:/share {more}",
        "41 22 0:99998 / /proc rw - proc proc rw",
    )
    path = tmp_path / "mountinfo"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("kind", "options", "more", "said"),
    [
        (
            "nfs",
            "rw shared:3",
            "rw,vers=3,nolock,local_lock=all",
            "mounted with local_lock=all",
        ),
        ("nfs4", "rw", "rw,vers=4.2,local_lock=flock", "mounted with local_lock=flock"),
        ("lustre", "rw,localflock", "rw", "mounted with localflock"),
        ("fuse.gcsfuse", "rw", "rw", r"'/share' \(fuse.gcsfuse\) are seen by this machine alone"),
    ],
)
def test_locks_of_one_machine_alone_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, options: str, more: str, said: str
) -> None:
    path = listed(tmp_path, kind, options, more)
    monkeypatch.setattr(mounts, "_MOUNTS", path)
    with pytest.raises(StoreError, match=said):
        mounts.refuse_lonely_locks(tmp_path)


@pytest.mark.parametrize(
    ("kind", "more"),
    [("nfs4", "rw,local_lock=none"), ("nfs", "rw,local_lock=posix"), ("lustre", "rw,flock"),
     ("ext4", "rw"), ("fuse.juicefs", "rw")],
)  # fmt: skip
def test_locks_that_are_shared_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, more: str
) -> None:
    monkeypatch.setattr(mounts, "_MOUNTS", listed(tmp_path, kind, "rw", more))
    mounts.refuse_lonely_locks(tmp_path)


def test_where_nothing_is_listed_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "nowhere")
    mounts.refuse_lonely_locks(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="Linux lists its mounts")
def test_the_mount_of_a_folder_here_is_found() -> None:
    mount = mounts.mount_of(Path("/proc"))
    assert mount is not None and (mount.place, mount.kind) == ("/proc", "proc")
