"""The directory of one training of SAEs: never another's, never overwritten."""

import json
import shutil
from pathlib import Path
from typing import Any

from energylens.errors import TrainingError, UsageError
from energylens.training.checkpoint import OTHER, difference

UNDER_WAY = ".partial"
"""Holds folders that are being written."""


class Directory:
    """Where a training's checkpoint, metrics and SAEs lie; `training.json` says whose they are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._record = path / "training.json"

    @property
    def checkpoint(self) -> Path:
        """There as long as the training is under way."""
        return self.path / "checkpoint.safetensors"

    @property
    def metrics(self) -> Path:
        """Figures over the steps."""
        return self.path / "metrics.parquet"

    def check_empty_or_ours(self) -> None:
        """Before anything is loaded: refuse a place that holds what no training of SAEs wrote.

        Raises:
            UsageError: it does, or is no directory.
        """
        if self._record.exists() or not self.path.exists():
            return
        if not self.path.is_dir():
            raise UsageError(f"'{self.path}' is a file; give a directory")
        there = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
        if there:
            some = ", ".join(there[:3]) + (", ..." if len(there) > 3 else "")
            raise UsageError(
                f"'{self.path}' holds other files ({some}), and none of them is overwritten; give "
                "a new directory"
            )

    def is_finished(self, settings: dict[str, Any]) -> bool:
        """Whether this very training has been finished here.

        Raises:
            TrainingError: the directory is another training's.
        """
        if not self._record.exists():
            return False
        try:
            known = json.loads(self._record.read_text("utf-8"))
            theirs, is_finished = json.dumps(known["settings"]), bool(known["is_finished"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"'{self._record}' cannot be read ({error}), so whose directory this is is not "
                "known; give another output directory"
            ) from error
        ours = json.dumps(settings)
        if theirs != ours:
            raise TrainingError(
                f"'{self.path}' is of a training with other settings: "
                f"{difference(theirs, ours)}; {OTHER}"
            )
        return is_finished

    def begin(self, settings: dict[str, Any]) -> None:
        """Make the directory this training's."""
        self._write({"settings": settings, "is_finished": False})

    def finish(self, settings: dict[str, Any]) -> None:
        """Everything is stored: the checkpoint has served its purpose."""
        self._write({"settings": settings, "is_finished": True})
        self.clear()

    def clear(self) -> None:
        """Remove what a finished training needs no more, and may have left where it was killed."""
        self.checkpoint.unlink(missing_ok=True)
        shutil.rmtree(self.path / UNDER_WAY, ignore_errors=True)

    def _write(self, record: dict[str, Any]) -> None:
        partial = self._record.with_name(f".{self._record.name}.partial")  # hidden: not another's
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                partial.write_text(json.dumps(record, indent=1), "utf-8")
                partial.replace(self._record)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            raise TrainingError(
                f"cannot write '{self._record}': {error.strerror or error}; make room, or give "
                "another output directory"
            ) from error
