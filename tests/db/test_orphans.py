"""What verify alone can tell: a store whose checksums are sound and whose rows do not fit."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energylens.db.index_files import entries_of
from energylens.db.layout import RunLayout, StoreLayout
from energylens.db.manifest import FileEntry, entry_of, read_manifest, write_manifest
from energylens.db.provenance import read_run
from energylens.db.schema import TABLES
from energylens.db.verify import _PARENTS, verify_store

NOWHERE = 10**9


def read(path: Path) -> pa.Table:
    """All rows of one file."""
    with pq.ParquetFile(path) as file:
        return file.read()


@pytest.fixture
def run(rich_path: Path, tmp_path: Path) -> RunLayout:
    """A run of one's own to damage."""
    return StoreLayout(Path(shutil.copytree(rich_path, tmp_path / "copy.lens"))).runs()[0]


def found(run: RunLayout) -> list[tuple[str, str]]:
    """Where something is wrong, and what."""
    return [(p.where, p.what) for p in verify_store(run.root.parents[1])]


def seal(
    folder: Path, name: str, change: Callable[[FileEntry], FileEntry], new: tuple[str, ...] = ()
) -> None:
    """Measure the file of a table anew and list it so, changed as asked; the rest stays."""
    old = read_manifest(folder)
    files = [
        change(entry_of(folder, folder / e.path, e.table, e.rows)) if e.path == name else e
        for e in old.files
    ]
    files += [change(entry_of(folder, folder / path, Path(path).stem, 0)) for path in new]
    write_manifest(folder, replace(old, files=tuple(files)))


def plant(folder: Path, name: str, row: dict[str, Any]) -> None:
    """One row more, with a sound checksum and a sound count."""
    path = folder / name
    table = Path(name).stem if path.parent == folder else path.parent.name
    schema = TABLES[table].arrow
    rows = read(path) if path.exists() else schema.empty_table()
    own = pa.Table.from_pylist([{**dict.fromkeys(schema.names), **row}], schema=schema)
    is_new = not path.exists()
    pq.write_table(pa.concat_tables([rows.cast(schema), own]), path)
    n = len(rows) + 1
    seal(folder, name, lambda e: replace(e, rows=n), new=(name,) if is_new else ())


ORPHANS: dict[str, tuple[str, dict[str, Any]]] = {
    "contexts": ("texts", {"context_id": NOWHERE, "text_id": NOWHERE, "part": 0, "n_tokens": 0}),
    "tokens": ("contexts", {"context_id": NOWHERE, "pos": 0}),
    "codes": ("tokens", {"sae_id": "one", "feature_id": 0, "activation": 1.0}),
    "energies": ("tokens", {"layer": 0, "energy": 1.0}),
    "activations": ("tokens", {"hook_name": "blocks.0.hook_resid_post", "activation": [1.0]}),
    "activation_norms": ("tokens", {"hook_name": "blocks.0.hook_resid_post", "norm": 1.0}),
    "activation_sums": ("tokens", {"hook_name": "blocks.0.hook_resid_post", "n_tokens": 1}),
    "energy_gradients": ("tokens", {"hook_name": "blocks.0.hook_resid_post", "gradient": [1.0]}),
    "routing": ("tokens", {"router": "blocks.0.mlp.gate", "layer": 0, "rank": 0, "choice_id": 0}),
    "routing_tokens": ("tokens", {"router": "blocks.0.mlp.gate", "layer": 0, "logits": [1.0]}),
}
"""A row of each table that stands on one of another, which there is not."""


@pytest.mark.parametrize("child", list(ORPHANS))
def test_a_row_without_its_parent_is_found(run: RunLayout, child: str) -> None:
    parent, row = ORPHANS[child]
    info = read_run(run.run_json)
    if "token_index" in TABLES[child].arrow.names:
        row = row | {"token_index": row.get("context_id", NOWHERE) * info.n_ctx}
    shutil.rmtree(run.index)  # it would be stale
    plant(run.complete_shards()[0], f"{child}.parquet", {"run_id": info.run_id, **row})
    assert found(run) == [(info.run_id, f"1 rows of {child} have no row in {parent}")]


def test_codes_of_no_sae_are_found(run: RunLayout) -> None:
    shutil.rmtree(run.index)
    name = run.root.name
    row = {"run_id": name, "sae_id": "gone", "token_index": 1, "feature_id": 0, "activation": 1.0}
    plant(run.complete_shards()[0], "codes.parquet", row)
    assert found(run) == [(name, "1 rows of codes have no row in saes")]


def test_indexed_codes_of_no_token_are_found(run: RunLayout) -> None:
    name = run.root.name
    row = {"run_id": name, "sae_id": "one", "token_index": NOWHERE, "feature_id": 0}
    path = entries_of(run.index)["feature_codes/one.parquet"].path
    plant(run.index, path, {**row, "activation": 1.0})
    assert found(run) == [(name, "1 rows of feature_codes have no row in tokens")]


OF_HEADS = (
    ("head_pairs", "tokens", "token_index"),
    ("head_pairs", "heads", "layer"),
    ("skip_trigrams", "heads", "head"),
)
"""Tables that were measured on request, what they stand on, and a column that leads there."""


@pytest.mark.parametrize(("child", "parent", "column"), OF_HEADS)
def test_what_was_measured_of_no_head_or_token_is_found(
    run: RunLayout, child: str, parent: str, column: str
) -> None:
    known = {"run_id": run.root.name, "layer": 0, "head": 1, "rank": 7, "token_index": 3}
    row = {name: known[name] for name in TABLES[child].arrow.names if name in known}
    path = entries_of(run.measured)[f"{child}/run.parquet"].path
    plant(run.measured, path, row | {column: 9999})
    said = [(problem.what, problem.remedy) for problem in verify_store(run.root.parents[1])]
    assert said == [(f"1 rows of {child} have no row in {parent}", "run: energylens heads")]


def test_every_rule_of_parents_is_tried() -> None:
    tried = {(child, parent) for child, (parent, _) in ORPHANS.items()}
    tried |= {("codes", "saes"), ("feature_codes", "tokens")}
    tried |= {(child, parent) for child, parent, _ in OF_HEADS}
    assert {(child, parent) for child, parent, _ in _PARENTS} == tried


def test_an_index_of_other_shards_is_stale(run: RunLayout) -> None:
    """The same rows in other bytes: nothing but where the index comes from is wrong."""
    folder = run.complete_shards()[0]
    path = folder / "codes.parquet"
    pq.write_table(read(path), path, compression="none")
    seal(folder, path.name, lambda entry: entry)
    assert found(run) == [(str(run.index), "computed from other shards, or by an older version")]


def test_a_count_that_is_not_the_files_is_found(run: RunLayout) -> None:
    shutil.rmtree(run.index)
    folder = run.complete_shards()[0]
    n = len(read(folder / "codes.parquet"))
    seal(folder, "codes.parquet", lambda entry: replace(entry, rows=n + 1))
    what = f"holds {n} rows, its manifest says {n + 1}"
    assert found(run) == [(str(folder / "codes.parquet"), what)]


def test_other_columns_and_unknown_tables_are_found(run: RunLayout) -> None:
    shutil.rmtree(run.index)
    folder = run.complete_shards()[0]
    path = folder / "codes.parquet"
    rows = read(path)
    pq.write_table(rows.rename_columns(["other", *rows.column_names[1:]]), path)
    seal(folder, path.name, lambda entry: entry)
    ((where, what),) = found(run)
    assert where == str(path) and "has columns ['other', " in what
    seal(folder, path.name, lambda entry: replace(entry, table="nonsense"))
    assert found(run) == [(str(path), "is of the table nonsense, which there is not")]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"feature_id": 48}, "codes with a feature_id outside its SAE"),
        ({"feature_id": -1}, "codes with a feature_id outside its SAE"),
        ({"activation": float("nan")}, "codes that are zero or no number"),
        ({"activation": float("inf")}, "codes that are zero or no number"),
        ({"activation": float("-inf")}, "codes that are zero or no number"),
    ],
)
def test_a_code_just_beyond_what_may_be_is_found(
    run: RunLayout, row: dict[str, Any], what: str
) -> None:
    shutil.rmtree(run.index)
    folder, name = run.complete_shards()[0], run.root.name
    codes = read(folder / "codes.parquet").to_pylist()
    active = {c["feature_id"] for c in codes if c["sae_id"] == "one" and c["token_index"] == 1}
    silent = min(set(range(48)) - active)
    known = {"run_id": name, "sae_id": "one", "token_index": 1, "feature_id": silent}
    plant(folder, "codes.parquet", {**known, "activation": 1.0, **row})
    assert found(run) == [(name, f"1 {what}")]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"pos": 16}, "tokens whose token_index is not context_id * n_ctx + pos"),
        ({"pos": -1}, "tokens whose token_index is not context_id * n_ctx + pos"),
        ({"energy": float("nan")}, "energies below zero or no number"),
    ],
)
def test_a_token_just_beyond_what_may_be_is_found(
    run: RunLayout, row: dict[str, Any], what: str
) -> None:
    """A context of its own holds nothing but the token."""
    shutil.rmtree(run.index)
    folder, name = run.complete_shards()[0], run.root.name
    assert read_run(run.run_json).n_ctx == 16
    context = {"run_id": name, "context_id": NOWHERE}
    plant(folder, "contexts.parquet", {**context, "text_id": 0, "part": 9, "n_tokens": 1})
    token = {"pos": 0, "is_special": False, **row}
    index = NOWHERE * 16 + token["pos"]
    plant(folder, "tokens.parquet", {**context, "token_index": index, **token})
    assert found(run) == [(name, f"1 {what}")]
