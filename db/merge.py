"""Bring the shards of several stores together into one."""

import os
import shutil
from pathlib import Path

from energylens.db.explanations import merge_explanations
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.manifest import read_manifest, sync
from energylens.db.notes import merge_notes
from energylens.db.provenance import RunInfo, read_run, write_run
from energylens.db.version import check_format, create_store
from energylens.errors import StoreError


def merge_stores(target: Path, sources: list[Path]) -> dict[str, int]:
    """Copy runs and complete shards that `target` lacks; new shards by run id.

    Raises:
        StoreError: a source is no store, two stores hold different runs or shards under one
            name, or the disk cannot be written.
    """
    for source in sources:
        check_format(source)
        if source.resolve() == target.resolve():
            raise StoreError(f"'{source}' cannot be merged into itself")
    create_store(target)
    added: dict[str, int] = {}
    for source in sources:
        for run in StoreLayout(source).runs():
            into = StoreLayout(target).run(run.root.name)
            n = _merge_run(run, into)
            added[run.root.name] = added.get(run.root.name, 0) + n
    return added


def _merge_run(run: RunLayout, into: RunLayout) -> int:
    info = read_run(run.run_json)
    into.root.mkdir(parents=True, exist_ok=True)
    if not into.run_json.exists():
        write_run(into.run_json, info)
    elif _identity(read_run(into.run_json)) != _identity(info):
        raise StoreError(
            f"'{run.root}' and '{into.root}' are different runs under one name; "
            "ingest one of them again with --run-id"
        )
    added = 0
    for shard in run.complete_shards():
        final = into.shards / shard.name
        if (final / "manifest.json").exists():
            if read_manifest(final).fingerprint != read_manifest(shard).fingerprint:
                raise StoreError(
                    f"'{shard}' and '{final}' hold different rows; delete the one that is wrong "
                    "and merge again"
                )
            continue
        _copy_shard(shard, final)
        added += 1
    merge_notes(run, into)
    merge_explanations(run, into)
    return added


def _identity(run: RunInfo) -> tuple[object, ...]:
    return run.versions.get("identity"), run.n_ctx, run.n_contexts, run.n_shards


def _copy_shard(shard: Path, final: Path) -> None:
    partial = final.with_name(f".{final.name}.merge-{os.getpid()}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(shard, partial)
        for file in partial.iterdir():
            sync(file)
        partial.rename(final)
        sync(final.parent)
    except OSError as error:
        raise StoreError(
            f"cannot copy '{shard}' to '{final}': {error.strerror or error}; shards copied before "
            "are safe; make room or fix the permissions and merge again"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
