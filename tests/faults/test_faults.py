"""The short form of the fault suite: some faults of every command, the same ones every time."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[2]


def test_the_same_command_again_mends_what_a_fault_left(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.drive", str(tmp_path), "all", "--most", "1"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    counts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [one.pop("command") for one in counts] == list(COMMANDS)
    kinds = ("killed", "stopped", "disk full", "file limit", "two writers")
    assert counts == [dict.fromkeys(kinds, 1)] * len(COMMANDS)
