"""The short form of the fault suite: some faults of every command, the same ones every time, and
readers beside a writer."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.faults.commands import COMMANDS
from tests.faults.short import FEW

ROOT = Path(__file__).resolve().parents[2]
KINDS = {
    "killed at a call", "stopped at a call", "disk full at a call", "file limit", "read-only disk",
    "disk full at a page", "killed", "stopped", "two writers", "three writers", "read meanwhile",
    "read while killed",
}  # fmt: skip
NEED_A_DISK = {"read-only disk", "disk full at a page"}
"""Kinds for which a disk is mounted."""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.short", str(tmp_path_factory.mktemp("short"))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_same_command_again_mends_what_a_fault_left(found: dict[str, Any]) -> None:
    counts = found["faults"]
    assert list(counts) == list(COMMANDS)
    assert {sum(of_one.values()) for of_one in counts.values()} == {FEW}
    tried = sum((Counter(of_one) for of_one in counts.values()), Counter())
    assert KINDS - NEED_A_DISK <= set(tried) <= KINDS


def test_readers_beside_a_writer_see_whole_stores(found: dict[str, Any]) -> None:
    seen = found["readers"]
    assert seen["readers"] == 2 and seen["answers"] >= 4
    assert seen["counts"]["codes"] == seen["counts"]["feature_codes"] > 0


def test_a_shard_that_a_killed_process_held_is_made_by_another(found: dict[str, Any]) -> None:
    shared = found["any shard"]
    assert len(shared["killed holding"]) == 1 and shared["ended"] == 2
    assert shared["shards"] > shared["processes"] and shared["rows"]["feature_codes"] > 0
