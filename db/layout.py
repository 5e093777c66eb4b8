"""Where everything of a store lies on disk."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from energylens.errors import StoreDamagedError


@dataclass(frozen=True)
class RunLayout:
    """The paths of one run."""

    root: Path
    """`<store>/runs/<run_id>`."""

    @property
    def run_json(self) -> Path:
        """Provenance of the run."""
        return self.root / "run.json"

    @property
    def lock(self) -> Path:
        """What who changes what is known of the run holds."""
        return self.root / ".run.lock"

    @property
    def shards(self) -> Path:
        """Holds a directory for each complete shard, and hidden ones for unfinished ones."""
        return self.root / "shards"

    @property
    def index(self) -> Path:
        """The derived tables; may be deleted at any time."""
        return self.root / "index"

    @property
    def measured(self) -> Path:
        """What was measured on request with passes of the model; there from the first time on."""
        return self.root / "measured"

    @property
    def notes(self) -> Path:
        """What a person has noted about the run's features; there from the first note on."""
        return self.root / "notes.parquet"

    @property
    def explanations(self) -> Path:
        """What the run's features are said to stand for; there once some were read."""
        return self.root / "explanations.parquet"

    @property
    def explanation_scores(self) -> Path:
        """How well explanations do; there once some were scored."""
        return self.root / "explanation_scores.parquet"

    @property
    def ratings(self) -> Path:
        """How people rate features; there from the first rating on."""
        return self.root / "ratings.parquet"

    def beside(self, table: str) -> Path:
        """The file of a table that lies beside the shards."""
        return self.root / f"{table}.parquet"

    def shard(self, number: int) -> Path:
        """The directory of one shard."""
        return self.shards / f"{number:06d}"

    def complete_shards(self) -> list[Path]:
        """Directories of the shards that have a manifest, in order.

        Raises:
            StoreDamagedError: they cannot be listed.
        """
        return [path for path in self.shard_directories() if (path / "manifest.json").exists()]

    def shard_directories(self) -> list[Path]:
        """Whatever is called like a shard, in order; none where there are no shards yet.

        Raises:
            StoreDamagedError: they cannot be listed.
        """
        if not os.path.lexists(self.shards):
            return []
        return [path for path in _listing(self.shards) if re.fullmatch("[0-9]+", path.name)]


@dataclass(frozen=True)
class StoreLayout:
    """The paths of a store."""

    root: Path

    @property
    def store_json(self) -> Path:
        """Format version."""
        return self.root / "store.json"

    @property
    def lock(self) -> Path:
        """What who makes the store, or writes its catalogue, holds."""
        return self.root / ".store.lock"

    @property
    def catalog(self) -> Path:
        """Views and macros for the plain duckdb shell."""
        return self.root / "catalog.duckdb"

    @property
    def plans(self) -> Path:
        """What was counted of each corpus, so that it is counted once; may be deleted."""
        return self.root / "plans"

    @property
    def graphs(self) -> Path:
        """Attribution graphs; there once some were taken in."""
        return self.root / "graphs"

    def run(self, run_id: str) -> RunLayout:
        """The paths of one run."""
        return RunLayout(self.root / "runs" / run_id)

    def runs(self) -> list[RunLayout]:
        """The runs that have provenance, in order of their names.

        Raises:
            StoreDamagedError: they cannot be listed.
        """
        return [run for run in self.run_directories() if os.path.lexists(run.run_json)]

    def run_directories(self) -> list[RunLayout]:
        """Whatever lies where runs do, in order of their names.

        Raises:
            StoreDamagedError: they cannot be listed.
        """
        return [RunLayout(path) for path in _listing(self.root / "runs")]


def _listing(directory: Path) -> list[Path]:
    """What lies in a directory and is not hidden, in order of the names."""
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise StoreDamagedError(
            f"'{directory}' cannot be listed: {error.strerror}; make it readable, or restore it "
            "from a copy"
        ) from error


def file_name(name: str) -> str:
    """A file name for an id that may hold slashes and the like; distinct ids stay distinct."""
    return re.sub(r"[^A-Za-z0-9._-]", lambda found: f"%{ord(found.group()):02X}", name)


def lock_of_plan(plan: Path) -> Path:
    """What who counts a corpus holds, beside where its plan will lie."""
    return plan.with_name(f".{plan.stem}.lock")
