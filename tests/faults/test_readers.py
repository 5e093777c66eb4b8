"""Readers of a store that is being written: the short form, and the moment an index is replaced."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from energylens.db import index_files, views
from energylens.db.index_files import extend_index, index_file
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.manifest import Manifest, read_manifest
from energylens.db.provenance import read_run
from energylens.db.store import open_store, reread
from energylens.db.whole import exchange
from energylens.errors import StoreDamagedError
from energylens.ingest.plan import IngestConfig
from energylens.queries.adhoc import ask
from energylens.queries.catalog import call, open_catalog
from tests.conftest import make_store


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, config: IngestConfig) -> Path:
    path = tmp_path_factory.mktemp("replaced") / "x.lens"
    make_store(path, config)
    return path


def layout_of(path: Path) -> RunLayout:
    return StoreLayout(path).runs()[0]


def n_codes(path: Path) -> int:
    with open_store(path) as store:
        return store.cursor().execute("SELECT count(*) FROM feature_codes").fetchall()[0][0]


def test_there_is_an_index_at_every_moment_of_its_replacement(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path.parent / "a").mkdir()
    (path.parent / "b").mkdir()
    if not exchange(path.parent / "a", path.parent / "b"):
        pytest.skip("this file system cannot exchange two names")
    before, seen = n_codes(path), []

    def looking(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            found = real(*arguments, **options)
            seen.append(n_codes(path))
            return found

        return call

    monkeypatch.setattr(Path, "rename", looking(Path.rename))
    monkeypatch.setattr(index_files, "exchange", looking(index_files.exchange))
    with extend_index(layout_of(path), ()):
        pass
    assert seen and set(seen) == {before}
    assert [p.name for p in layout_of(path).root.glob(".*partial")] == []


def test_who_opened_one_index_reads_nothing_of_the_next(path: Path) -> None:
    run = layout_of(path)
    name = read_run(run.run_json).saes[0].sae_id
    file = index_file(run, "features", name)
    assert file is not None
    with file.open("rb") as content:
        old = pq.read_table(content)
    counted = f"SELECT count(*) FROM features WHERE sae_id = '{name}'"
    with open_catalog(path) as store, open_catalog(path) as asked:
        kept = store.cursor().execute("SELECT count(*) FROM feature_codes").fetchall()
        with (
            extend_index(run, ("features",), name) as writer,
            writer.table("features", name) as out,
        ):
            out.write(old.slice(0, 7))
        with pytest.raises(duckdb.IOException):  # of what has gone, neither old rows nor new ones
            store.cursor().execute(counted).fetchall()
        assert store.cursor().execute("SELECT count(*) FROM feature_codes").fetchall() == kept
        assert reread(store, lambda: store.cursor().execute(counted).fetchall()) == [(7,)]
        assert ask(asked, counted).rows.item() == 7
    with open_catalog(path) as store:
        with (
            extend_index(run, ("features",), name) as writer,
            writer.table("features", name) as out,
        ):
            out.write(old)
        assert call(store, "strongest_features", run=run.root.name, sae=name).height


def test_an_index_has_no_more_rows_than_the_shards_that_are_read_beside_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shard and an index of it appear between the two listings, whichever is first."""
    orphans = "SELECT count(*) FROM feature_codes ANTI JOIN codes USING (sae_id, token_index)"
    run = layout_of(path)
    hidden = {place: place.with_name(".late") for place in (*run.complete_shards(), run.index)}
    for place, away in hidden.items():
        place.rename(away)

    def then_all_appear(real: Callable[..., Any]) -> Callable[..., Any]:
        def listed(*arguments: Any) -> Any:
            found = real(*arguments)
            while hidden:
                place, away = hidden.popitem()
                away.rename(place)
            return found

        return listed

    for name in ("_shard_files", "_index_files"):
        monkeypatch.setattr(views, name, then_all_appear(getattr(views, name)))
    with open_store(path) as store:
        assert store.cursor().execute(orphans).fetchall() == [(0,)]
    with open_store(path) as store:
        assert store.cursor().execute("SELECT count(*) > 0 FROM feature_codes").fetchall()[0][0]


def test_an_index_that_is_replaced_after_it_was_listed_is_listed_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real = layout_of(path), views._index_files
    name = read_run(run.run_json).saes[0].sae_id
    file = index_file(run, "features", name)
    assert file is not None
    with file.open("rb") as content:
        old = pq.read_table(content)
    left = [old.slice(0, 7), old.slice(0, 5), old]

    def listed(runs: Any) -> Any:
        found = real(runs)
        if left:
            with (
                extend_index(run, ("features",), name) as writer,
                writer.table("features", name) as out,
            ):
                out.write(left.pop(0))
        return found

    monkeypatch.setattr(views, "_index_files", listed)
    with open_store(path) as store:
        rows = store.cursor().execute(f"SELECT count(*) FROM features WHERE sae_id = '{name}'")
        assert rows.fetchall() == [(len(old),)] and not left


def test_an_index_that_is_replaced_while_it_is_listed_is_not_told_damaged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = n_codes(path)
    index, asked = layout_of(path).index, []

    def older(directory: Path) -> Manifest:
        manifest = read_manifest(directory)
        asked.append(directory)
        if directory == index and asked.count(index) <= most:
            one, *rest = manifest.files
            return replace(manifest, files=(replace(one, n_bytes=one.n_bytes + 1), *rest))
        return manifest

    monkeypatch.setattr(views, "read_manifest", older)
    most = 2  # whether its columns are old is asked first
    assert n_codes(path) == before and asked.count(index) > 2
    asked.clear()
    most = 1_000
    with pytest.raises(StoreDamagedError, match="was changed or damaged"):
        n_codes(path)
