"""Bring the shards of several stores together into one."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from energylens.db.beside import merge_kept
from energylens.db.change import change_run, create_run
from energylens.db.explanations import merge_explanations
from energylens.db.graph_files import merge_graphs
from energylens.db.index_files import add_measured, has_columns, measured_files
from energylens.db.layout import RunLayout, StoreLayout, file_name
from energylens.db.leftovers import clean_store
from energylens.db.manifest import FileEntry, check_file, copy_file, damaged, read_manifest
from energylens.db.notes import merge_notes
from energylens.db.provenance import RunInfo, SaeInfo, read_run
from energylens.db.ratings import RATINGS
from energylens.db.same import Difference, difference_in, first_difference
from energylens.db.schema import TABLES
from energylens.db.scores import EXPLANATION_SCORES
from energylens.db.shards import new_shard
from energylens.db.version import check_format, create_store
from energylens.db.whole import sync
from energylens.errors import StoreError


def merge_stores(target: Path, sources: list[Path]) -> dict[str, int]:
    """Copy runs, with what was added to them and measured on them, complete shards and attribution
    graphs that `target` lacks; new shards by run id.

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
        merge_graphs(StoreLayout(source), StoreLayout(target))
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
        measured = self._measured(theirs)
        ours = change_run(self.target, lambda run: self._with_additions(run, theirs))
        n = 0
        for shard in self.source.complete_shards():
            number = _renumbered(int(shard.name), theirs, ours)
            n += number is not None and self._copy(shard, number)
        if measured:
            with add_measured(self.target, ()) as writer:
                for directory, entry in measured:
                    writer.copy(directory, entry)
        merge_notes(self.source, self.target)
        merge_explanations(self.source, self.target)
        merge_kept(self.source, self.target, EXPLANATION_SCORES, "scored")
        merge_kept(self.source, self.target, RATINGS, "changed")
        return n

    def _measured(self, theirs: RunInfo) -> list[tuple[Path, FileEntry]]:
        """What was measured on the source's run and not on the target's.

        Raises:
            StoreError: the two hold different results of one measurement.
        """
        ours, found = measured_files(self.target), []
        known = {file_name(sae.sae_id) for sae in theirs.saes} | {"run"}
        for place, (directory, entry) in measured_files(self.source).items():
            path = directory / entry.path
            check_file(directory, entry)
            if PurePosixPath(place).stem not in known:
                raise damaged(path, "it is of no SAE of its run")
            if place not in ours:
                found.append((directory, entry))
            elif apart := self._difference(path, entry, *ours[place]):
                own = ours[place][0]
                raise StoreError(
                    f"what was measured differs between '{directory}' and '{own}': {apart.table}, "
                    f"row {apart.row}: {apart.column} is {apart.first} in the first and "
                    f"{apart.second} in the second; delete the folder that is not wanted and "
                    "merge again"
                )
        return found

    def _difference(
        self, path: Path, entry: FileEntry, directory: Path, own: FileEntry
    ) -> Difference | None:
        """Where two results of one measurement differ; those of an older version, with other
        columns, are shown nowhere and contradict nothing."""
        table, there = TABLES[entry.table], directory / own.path
        if own.sha256 == entry.sha256:
            return None
        check_file(directory, own)
        if not has_columns(path, table) or not has_columns(there, table):
            return None
        return difference_in(table, path, there)

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
                copy_file(shard, entry, partial / entry.path)
            shutil.copyfile(shard / "manifest.json", partial / "manifest.json")
            sync(partial / "manifest.json")
            sync(partial)
        return True


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
