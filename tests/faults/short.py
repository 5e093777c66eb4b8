"""The short form of both suites in one process: what is loaded once serves all.

python -m tests.faults.short FOLDER
"""

import json
import sys
from pathlib import Path

from tests.faults import any_shard, drive, readers
from tests.faults.commands import COMMANDS, build_stage

FEW = 1
"""Faults of each command."""


def main() -> None:
    stage = build_stage(Path(sys.argv[1]), drive.started, drive.ended)
    counts = drive.drive(stage, list(COMMANDS), few=FEW)
    found = readers.drive(stage, n_readers=2, n_texts=3, every=2)
    shared = any_shard.drive(stage, processes=3, killed=1, texts=8, seed=0)
    told = {"faults": counts, "readers": found, "any shard": shared}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
