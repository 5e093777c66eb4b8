"""Damage to any kind of file of a store, by a flipped bit, a cut or a deletion, is found."""

import os
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from energylens.db.layout import StoreLayout
from energylens.db.store import open_store
from energylens.db.verify import verify_store
from energylens.db.version import create_store
from energylens.errors import EnergyLensError, StoreDamagedError
from energylens.queries.catalog import call, open_catalog, write_catalog


def flipped(path: Path, by: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[by.randrange(len(content))] ^= 1 << by.randrange(8)
    path.write_bytes(content)


def cut(path: Path, by: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: by.randrange(path.stat().st_size)])


def grown(path: Path, by: random.Random) -> None:
    path.write_bytes(path.read_bytes() + by.randbytes(1))


def deleted(path: Path, by: random.Random) -> None:
    path.unlink()


KINDS = {
    "format": "store.json",
    "catalogue": "catalog.duckdb",
    "sums of the store": "sums.json",
    "record": "runs/*/run.json",
    "sums of the run": "runs/*/sums.json",
    "notes": "runs/*/notes.parquet",
    "explanations": "runs/*/explanations.parquet",
    "scores": "runs/*/explanation_scores.parquet",
    "ratings": "runs/*/ratings.parquet",
    "manifest of graphs": "graphs/manifest.json",
    "graphs": "graphs/*/*.parquet",
    "manifest of a shard": "runs/*/shards/*/manifest.json",
    "shard": "runs/*/shards/*/*.parquet",
    "manifest of the index": "runs/*/index/manifest.json",
    "index": "runs/*/index/*/*.parquet",
    "manifest of what was measured": "runs/*/measured/manifest.json",
    "measured": "runs/*/measured/*/*.parquet",
}
"""Kinds of files by where they lie."""


@pytest.fixture(scope="module")
def whole(rich_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copytree(rich_path, tmp_path_factory.mktemp("damage") / "x.lens"))
    write_catalog(path)
    return path


def is_found(store: Path) -> bool:
    try:
        return bool(verify_store(store))
    except EnergyLensError:
        return True


def test_a_sound_store_is_sound(whole: Path) -> None:
    assert verify_store(whole) == []


def test_every_file_is_of_a_kind(whole: Path) -> None:
    known = {path for place in KINDS.values() for path in whole.glob(place)}
    assert {path for path in whole.rglob("*") if path.is_file()} == known


@pytest.mark.parametrize("damage", [flipped, flipped, flipped, cut, grown, deleted])
@pytest.mark.parametrize("kind", list(KINDS))
def test_damage_is_found(
    whole: Path,
    kind: str,
    damage: Callable[[Path, random.Random], None],
    request: pytest.FixtureRequest,
) -> None:
    by = random.Random(repr(request))
    path = by.choice(sorted(whole.glob(KINDS[kind])))
    content = path.read_bytes()
    damage(path, by)
    try:
        assert is_found(whole)
    finally:
        path.write_bytes(content)


def test_a_file_of_another_size_is_told_at_opening(whole: Path) -> None:
    path = sorted(whole.glob(KINDS["shard"]))[0]
    content = path.read_bytes()
    grown(path, random.Random(0))
    try:
        with pytest.raises(StoreDamagedError, match=f"{path.name}' has .* bytes"):
            open_store(whole)
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("place", ["runs", "runs/{run}/shards"])
def test_a_directory_that_cannot_be_listed_is_told(
    whole: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = whole / place.format(run=StoreLayout(whole).runs()[0].root.name)
    real = os.scandir if sys.version_info >= (3, 13) else os.listdir

    def listed(path: str) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, real.__name__, listed)
    for use in (verify_store, open_store):
        with pytest.raises(StoreDamagedError, match="cannot be listed: Permission denied"):
            use(whole)


def test_a_store_without_runs_is_told(tmp_path: Path) -> None:
    create_store(tmp_path / "x.lens")
    (tmp_path / "x.lens" / "runs").rmdir()
    for use in (verify_store, open_store):
        with pytest.raises(StoreDamagedError, match="cannot be listed"):
            use(tmp_path / "x.lens")


def test_a_query_that_meets_damage_says_so(rich_path: Path, tmp_path: Path) -> None:
    """The files are as long as they were, and their ends are whole."""
    path = Path(shutil.copytree(rich_path, tmp_path / "x.lens"))
    with open_catalog(path) as store:
        for file in path.rglob("*.parquet"):
            whole = file.read_bytes()
            end = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
            file.write_bytes(whole[:4] + bytes(end - 4) + whole[end:])
        with pytest.raises(StoreDamagedError, match="energylens verify"):
            call(store, "energy_by_layer")


def test_a_damaged_name_of_a_column_is_told_at_opening(rich_path: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(rich_path, tmp_path / "names.lens"))
    file = StoreLayout(path).runs()[0].shard(0) / "tokens.parquet"
    file.write_bytes(file.read_bytes().replace(b"context_id", b"c\xffntext_id"))
    with pytest.raises(StoreDamagedError, match=r"cannot be read .* energylens verify"):
        open_catalog(path)
    assert any("tokens.parquet" in f"{problem}" for problem in verify_store(path))
