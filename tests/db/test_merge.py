"""What merging takes for the same shard, what it refuses, and what it says of it."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energylens.db.index_files import add_measured, entries_of
from energylens.db.layout import StoreLayout
from energylens.db.manifest import Machine, Manifest, entry_of, read_manifest, write_manifest
from energylens.db.merge import merge_stores
from energylens.db.parquet import TableWriter
from energylens.db.provenance import read_run
from energylens.db.schema import TABLES
from energylens.db.store import open_store
from energylens.db.verify import verify_store
from energylens.errors import StoreDamagedError, StoreError

Change = Callable[[np.ndarray], np.ndarray]
AVX2, AVX512 = (Machine("2.13.0", cpu, "mkl 2024.2", 2) for cpu in ("AVX2", "AVX512"))


@pytest.fixture
def pair(store_path: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of a store."""
    first, second = (shutil.copytree(store_path, tmp_path / f"{n}.lens") for n in "ab")
    return Path(first), Path(second)


def shard(store: Path) -> Path:
    return StoreLayout(store).runs()[0].complete_shards()[0]


def rewrite(
    store: Path, table: str, column: str, change: Change, machine: Machine | None = AVX512
) -> None:
    """Change a column of a shard's table, written in row groups of other sizes, and its manifest
    with it."""
    folder = shard(store)
    path = folder / f"{table}.parquet"
    rows = pq.read_table(path)
    old = rows[column].combine_chunks()
    if isinstance(old, pa.ListArray):
        new: pa.Array = pa.ListArray.from_arrays(
            old.offsets, pa.array(change(old.values.to_numpy(zero_copy_only=False).copy()))
        )
    else:
        new = pa.array(
            change(old.to_numpy(zero_copy_only=False).copy()), old.type, from_pandas=True
        )
    rows = rows.set_column(rows.column_names.index(column), column, new)
    with TableWriter(path, TABLES[table]) as out:
        for start in range(0, rows.num_rows, 17):
            out.write(rows.slice(start, 17))
    manifest = read_manifest(folder)
    files = [
        entry_of(folder, path, table, rows.num_rows) if e.table == table else e
        for e in manifest.files
    ]
    write_manifest(folder, replace(manifest, files=tuple(files), made_on=machine))


def made_on(store: Path, machine: Machine | None) -> None:
    write_manifest(shard(store), replace(read_manifest(shard(store)), made_on=machine))


def by(factor: float) -> Change:
    return lambda values: values * np.float32(factor)


def test_a_shard_says_what_computed_it(store_path: Path) -> None:
    import torch

    machine = read_manifest(shard(store_path)).made_on
    assert machine is not None
    assert machine.torch == torch.__version__ and machine.threads == torch.get_num_threads()
    assert machine.cpu == torch.backends.cpu.get_cpu_capability()
    assert machine.blas.split()[0] in torch.__config__.show()


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("codes", "activation"),
        ("tokens", "energy"),
        ("gradient_contexts", "sum_gradient"),
        ("gradient_sums", "sum_g"),
    ],
)
@pytest.mark.parametrize("other", [AVX512, None])
def test_rounding_of_another_machine_is_the_same_shard(
    pair: tuple[Path, Path], table: str, column: str, other: Machine | None
) -> None:
    made_on(pair[0], AVX2)
    rewrite(pair[1], table, column, by(1 + 3e-5), other)
    assert list(merge_stores(pair[0], [pair[1]]).values()) == [0]


def test_machines_that_are_alike_must_agree_exactly(pair: tuple[Path, Path]) -> None:
    made_on(pair[0], AVX2)
    rewrite(pair[1], "codes", "activation", by(1.0), AVX2)  # other bytes, the same rows
    assert list(merge_stores(pair[0], [pair[1]]).values()) == [0]
    rewrite(pair[1], "codes", "activation", by(1 + 1e-6), AVX2)
    with pytest.raises(StoreError, match=r"differ: codes, row .*: activation is"):
        merge_stores(pair[0], [pair[1]])


def one_off(row: int, factor: float) -> Change:
    def change(values: np.ndarray) -> np.ndarray:
        values[row] *= factor
        return values

    return change


def test_what_differs_is_told_with_table_row_and_both_values(pair: tuple[Path, Path]) -> None:
    old = pq.read_table(shard(pair[0]) / "codes.parquet").slice(40, 1).to_pylist()[0]
    rewrite(pair[1], "codes", "activation", one_off(40, 1.001))
    new = pq.read_table(shard(pair[1]) / "codes.parquet").slice(40, 1).to_pylist()[0]
    with pytest.raises(StoreError) as said:
        merge_stores(pair[0], [pair[1]])
    where = f"sae_id {old['sae_id']!r}, token_index {old['token_index']}, feature_id "
    assert f"codes, row {where}{old['feature_id']}: " in str(said.value)
    values = f"activation is {new['activation']!r} in the first and {old['activation']!r} in the"
    assert values in str(said.value)
    assert str(shard(pair[0])) in str(said.value) and str(shard(pair[1])) in str(said.value)


@pytest.mark.parametrize(
    ("table", "column", "change", "said"),
    [
        ("codes", "feature_id", lambda v: v + (np.arange(len(v)) == 3), "row number 3: feature_id"),
        ("tokens", "vocab_id", lambda v: v + 1, "tokens, row token_index 0: vocab_id is "),
        ("tokens", "energy", lambda v: np.where(np.arange(len(v)) == 1, np.nan, v), "energy is "),
        ("gradient_contexts", "sum_gradient", one_off(2, -1.0), "sum_gradient is .* at place 2"),
    ],
)
def test_keys_and_exact_columns_are_compared_exactly(
    pair: tuple[Path, Path], table: str, column: str, change: Change, said: str
) -> None:
    rewrite(pair[1], table, column, change)
    with pytest.raises(StoreError, match=said):
        merge_stores(pair[0], [pair[1]])


def test_a_table_that_ends_early_is_told(pair: tuple[Path, Path]) -> None:
    folder = shard(pair[1])
    rows = pq.read_table(folder / "codes.parquet")
    pq.write_table(rows.slice(0, rows.num_rows - 1), folder / "codes.parquet")
    manifest = read_manifest(folder)
    entries = [
        entry_of(folder, folder / e.path, e.table, e.rows - (e.table == "codes"))
        for e in manifest.files
    ]
    write_manifest(folder, replace(manifest, files=tuple(entries)))
    with pytest.raises(StoreError, match=rf"rows is {rows.num_rows - 1:,} in .* {rows.num_rows:,}"):
        merge_stores(pair[0], [pair[1]])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("table", ["texts", "codes", "gradient_sums"])
def test_a_flipped_bit_is_not_merged(
    store_path: Path, pair: tuple[Path, Path], tmp_path: Path, table: str
) -> None:
    broken = shard(pair[0]) / f"{table}.parquet"
    flip(broken)
    new = tmp_path / "new.lens"
    with pytest.raises(StoreDamagedError, match=f"'{broken}' is damaged"):
        merge_stores(new, [pair[0]])
    assert not list((new / "runs").glob("*/shards/*"))
    assert list(merge_stores(new, [store_path]).values()) == [1]
    assert verify_store(new) == []


def test_a_flipped_bit_is_not_taken_for_another_machine(pair: tuple[Path, Path]) -> None:
    rewrite(pair[0], "tokens", "energy", by(1 + 1e-6))
    flip(shard(pair[1]) / "tokens.parquet")
    with pytest.raises(StoreDamagedError, match=f"'{shard(pair[1])}/tokens.parquet' is damaged"):
        merge_stores(pair[0], [pair[1]])


def test_what_was_measured_on_request_comes_along(rich_path: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.lens"
    merge_stores(new, [rich_path])
    measured = StoreLayout(rich_path).runs()[0].measured
    copied = StoreLayout(new).runs()[0].measured
    files = sorted(path.relative_to(measured) for path in measured.rglob("*.parquet"))
    assert (
        len(files) >= 7
        and sorted(p.relative_to(copied) for p in copied.rglob("*.parquet")) == files
    )
    for file in files:
        assert (copied / file).read_bytes() == (measured / file).read_bytes()
        assert not (copied / file).samefile(measured / file)
    before = read_manifest(copied)
    merge_stores(new, [rich_path])
    assert read_manifest(copied) == before


def test_what_was_measured_is_not_taken_from_a_damaged_file(
    rich_path: Path, tmp_path: Path
) -> None:
    first, second = (Path(shutil.copytree(rich_path, tmp_path / f"{n}.lens")) for n in "ab")
    own, theirs = (StoreLayout(store).runs()[0].measured for store in (first, second))
    with add_measured(StoreLayout(first).runs()[0], ("bigrams",)):
        pass  # it has none of these
    merge_stores(first, [second])
    assert "bigrams/run.parquet" in entries_of(own)
    with add_measured(StoreLayout(first).runs()[0], ("bigrams",)):
        pass
    flip(theirs / entries_of(theirs)["bigrams/run.parquet"].path)
    with pytest.raises(StoreDamagedError, match=r"bigrams/run@.*\.parquet' is damaged"):
        merge_stores(first, [second])
    assert "bigrams/run.parquet" not in entries_of(own)
    assert "heads/run.parquet" in entries_of(own)


def measured(store: Path, sae: int, energies: float) -> None:
    """An effect on one SAE's first feature, as if it had been measured there."""
    run = StoreLayout(store).runs()[0]
    info = read_run(run.run_json)
    name, schema = info.saes[sae].sae_id, TABLES["feature_effects"].arrow
    row = dict.fromkeys(schema.names, 1) | {
        "run_id": info.run_id, "sae_id": name, "energy": "lens", "measured": energies,
    }  # fmt: skip
    with (
        add_measured(run, ("feature_effects",), name) as writer,
        writer.table("feature_effects", name) as out,
    ):
        out.write(pa.Table.from_pylist([row], schema=schema))


def effects(store: Path) -> list[float]:
    with open_store(store) as opened:
        rows = opened.cursor().execute("SELECT measured FROM feature_effects ORDER BY sae_id")
        return [row[0] for row in rows.fetchall()]


def test_what_was_measured_comes_with_its_run(pair: tuple[Path, Path], tmp_path: Path) -> None:
    measured(pair[0], 0, 0.5)
    measured(pair[1], 1, 0.25)
    for _ in range(2):
        merge_stores(pair[0], [pair[1]])
        assert sorted(effects(pair[0])) == [0.25, 0.5] and effects(pair[1]) == [0.25]
    merge_stores(tmp_path / "new.lens", [pair[0]])
    assert effects(tmp_path / "new.lens") == effects(pair[0])
    for store in (pair[0], tmp_path / "new.lens"):
        assert [one.what for one in verify_store(store) if "measured" in one.where] == []
    inodes = [
        {path.stat().st_ino for path in store.rglob("measured/*/*.parquet")}
        for store in (*pair, tmp_path / "new.lens")
    ]
    assert len(set.union(*inodes)) == sum(map(len, inodes)), "damage to one copy is to one alone"


def test_results_that_differ_are_refused_before_anything_is_copied(
    pair: tuple[Path, Path], tmp_path: Path
) -> None:
    for store, result in zip(pair, (0.5, 0.6), strict=True):
        measured(store, 0, result)
    shutil.rmtree(shard(pair[0]))
    with pytest.raises(StoreError, match=r"measured is 0\.6 in the first and 0\.5 in the second"):
        merge_stores(pair[0], [pair[1]])
    assert not StoreLayout(pair[0]).runs()[0].complete_shards() and effects(pair[0]) == [0.5]
    measured(pair[1], 0, 0.5 * (1 + 1e-6))  # as another kind of machine would
    assert list(merge_stores(pair[0], [pair[1]]).values()) == [1]
    assert effects(pair[0]) == [0.5]


@pytest.mark.parametrize("other", ["of no SAE", "damaged"])
def test_a_stranger_gives_no_results_that_nobody_could_read(
    pair: tuple[Path, Path], other: str
) -> None:
    measured(pair[1], 0, 0.5)
    folder = StoreLayout(pair[1]).runs()[0].measured
    (entry,) = read_manifest(folder).files
    if other == "damaged":
        content = bytearray((folder / entry.path).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / entry.path).write_bytes(content)
    else:
        (folder / entry.path).rename(folder / "feature_effects" / "x.parquet")
        changed = replace(entry, path="feature_effects/x.parquet")
        write_manifest(folder, Manifest((changed,)))
    with pytest.raises(StoreDamagedError, match="feature_effects"):
        merge_stores(pair[0], [pair[1]])
    assert effects(pair[0]) == []
