"""Bring the shards of several stores together into one."""

import hashlib
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from energylens.db.change import change_run, create_run
from energylens.db.explanations import merge_explanations
from energylens.db.index_files import add_measured, measured_files
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.leftovers import clean_store
from energylens.db.manifest import damaged, read_manifest
from energylens.db.notes import merge_notes
from energylens.db.provenance import RunInfo, SaeInfo, read_run
from energylens.db.same import first_difference
from energylens.db.shards import new_shard
from energylens.db.version import check_format, create_store
from energylens.db.whole import open_plain, sync
from energylens.errors import StoreError

_PIECE = 1 << 20
"""Bytes copied at once."""


def merge_stores(target: Path, sources: list[Path]) -> dict[str, int]:
    """Copy runs, with what was added to them and measured on them, and complete shards that
    `target` lacks; new shards by run id.

    Raises:
        StoreError: a source is no store, two stores hold different runs, SAEs or shards under one
            name, or the disk cannot be written.
        StoreDamagedError: a shard is not what its manifest says.
    """
    for source in sources:
        check_format(source)
        if source.resolve() == target.resolve():
            raise StoreError(f"'{source}' cannot be merged into itself")
    create_store(target)
    clean_store(target)
    added: dict[str, int] = {}
    for source in sources:
        for run in StoreLayout(source).runs():
            into = StoreLayout(target).run(run.root.name)
            n = _Merge(run, into).take()
            added[run.root.name] = added.get(run.root.name, 0) + n
    return added


@dataclass(frozen=True)
class _Merge:
    """A run of one store on its way into another."""

    source: RunLayout
    target: RunLayout

    def take(self) -> int:
        """Take in what the target lacks; how many shards that were."""
        theirs = read_run(self.source.run_json)
        ours = create_run(self.target, replace(theirs, saes=_ingested(theirs), additions=[]))
        if _identity(ours) != _identity(theirs):
            raise StoreError(
                f"'{self.source.root}' and '{self.target.root}' are different runs under one name; "
                "ingest one of them again with --run-id"
            )
        ours = change_run(self.target, lambda run: self._with_additions(run, theirs))
        n = 0
        for shard in self.source.complete_shards():
            number = _renumbered(int(shard.name), theirs, ours)
            n += number is not None and self._copy(shard, number)
        self._take_measured()
        merge_notes(self.source, self.target)
        merge_explanations(self.source, self.target)
        return n

    def _with_additions(self, run: RunInfo, theirs: RunInfo) -> RunInfo:
        """The record with the SAEs and additions of the other one behind its own."""
        known = {sae.sae_id: sae for sae in run.saes}
        for sae in theirs.saes:
            own = known.setdefault(sae.sae_id, sae)
            if own.weights_sha256 != sae.weights_sha256 or own.hook_name != sae.hook_name:
                raise StoreError(
                    f"'{sae.sae_id}' is one SAE in '{self.source.root}' and another in "
                    f"'{self.target.root}'; add the first to the second run by: energylens "
                    f"recompute {self.target.root.parent.parent} {run.run_id} --sae {sae.source}"
                )
        additions = dict.fromkeys([*run.additions, *theirs.additions])
        return replace(run, saes=list(known.values()), additions=list(additions))

    def _take_measured(self) -> None:
        """Copy what was measured on request where the target has nothing of it."""
        there = {entry.path for _, entry in measured_files(self.target)}
        new = [(d, entry) for d, entry in measured_files(self.source) if entry.path not in there]
        if new:
            with add_measured(self.target, ()) as writer:
                for directory, entry in new:
                    _copy_file(directory / entry.path, entry.sha256, writer.place(entry))

    def _copy(self, shard: Path, number: int) -> bool:
        """Copy a shard, or make sure that the target has the same; whether it was copied."""
        final = self.target.shard(number)
        if (final / "manifest.json").exists():
            if found := first_difference(shard, final):
                raise StoreError(
                    f"'{shard}' and '{final}' differ: {found.table}, row {found.row}: "
                    f"{found.column} is {found.first} in the first and {found.second} in the "
                    "second; delete the one that is wrong and merge again"
                )
            return False
        with new_shard(self.target, number) as partial:
            for entry in read_manifest(shard).files:
                _copy_file(shard / entry.path, entry.sha256, partial / entry.path)
            shutil.copyfile(shard / "manifest.json", partial / "manifest.json")
            sync(partial / "manifest.json")
            sync(partial)
        return True


def _copy_file(path: Path, sha256: str, to: Path) -> None:
    """Copy a file and make sure that what was read is what its manifest says."""
    digest = hashlib.sha256()
    with _opened(path) as source, to.open("xb") as copy:
        while piece := _read(source, path):
            digest.update(piece)
            copy.write(piece)
        copy.flush()
        os.fsync(copy.fileno())
    if digest.hexdigest() != sha256:
        raise damaged(path, "it is not what its manifest says")


def _opened(path: Path) -> BinaryIO:
    try:
        return open_plain(path)
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error


def _read(source: BinaryIO, path: Path) -> bytes:
    """The next piece; a source that cannot be read is not taken for a target that cannot be
    written."""
    try:
        return source.read(_PIECE)
    except OSError as error:
        raise damaged(path, error.strerror or str(error)) from error


def _identity(run: RunInfo) -> tuple[object, ...]:
    return run.versions.get("identity"), run.n_ctx, run.n_contexts, run.n_shards


def _ingested(run: RunInfo) -> list[SaeInfo]:
    """The SAEs a run began with; those that were added later come with their additions."""
    return [sae for sae in run.saes if f"codes {sae.sae_id}" not in run.additions]


def _renumbered(number: int, theirs: RunInfo, ours: RunInfo) -> int | None:
    """The number in `ours` of a shard of `theirs`: additions stand in the order they were made, so
    that the same one may lie elsewhere. None for a shard of no addition."""
    addition, shard = divmod(number, max(theirs.n_shards, 1))
    if not addition:
        return shard
    if addition > len(theirs.additions):
        return None
    return (ours.additions.index(theirs.additions[addition - 1]) + 1) * ours.n_shards + shard
