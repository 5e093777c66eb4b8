"""Opening, versions, reading while writing, the catalogue file, and what verify finds."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energylens.db.layout import StoreLayout
from energylens.db.manifest import Manifest, entry_of, read_manifest, write_manifest
from energylens.db.merge import merge_stores
from energylens.db.provenance import read_run, write_run
from energylens.db.schema import SINK_NORM_RATIO, TABLES
from energylens.db.store import Session, Store, confine, open_store
from energylens.db.verify import verify_store
from energylens.db.version import FORMAT, create_store, raise_format, read_format
from energylens.errors import StoreDamagedError, StoreError, StoreVersionError
from energylens.ingest.parts import Part
from energylens.ingest.plan import IngestConfig, load, prepare
from energylens.ingest.progress import Progress
from energylens.ingest.run import ingest
from energylens.queries.catalog import write_catalog


@pytest.fixture
def copy(store_path: Path, tmp_path: Path) -> Path:
    """A store of one's own to damage."""
    return Path(shutil.copytree(store_path, tmp_path / "copy.lens"))


def shard(path: Path) -> Path:
    return StoreLayout(path).runs()[0].complete_shards()[0]


def test_views_have_the_documented_columns_and_comments(store: Store) -> None:
    con = store.cursor()
    for table in TABLES.values():
        described = con.sql(
            "SELECT column_name, comment FROM duckdb_columns() "
            f"WHERE schema_name = 'main' AND table_name = '{table.name}' ORDER BY column_index"
        ).fetchall()
        assert [name for name, _ in described][: len(table.columns)] == table.arrow.names
        assert all(comment for _, comment in described)


def test_masked_tokens_are_special_first_or_sinks(store: Store) -> None:
    wrong = store.cursor().execute(
        "SELECT count(*) FROM tokens WHERE is_masked <> (is_special OR pos = 0 OR "
        f"coalesce(norm_ratio, 0) > {SINK_NORM_RATIO})"
    )
    assert wrong.fetchone() == (0,)


def test_an_empty_store_opens_with_empty_tables(tmp_path: Path) -> None:
    create_store(tmp_path / "x.lens")
    with open_store(tmp_path / "x.lens") as store:
        for name in TABLES:
            assert store.cursor().execute(f"SELECT count(*) FROM {name}").fetchone() == (0,)
    assert verify_store(tmp_path / "x.lens") == []


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        open_store(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="exists and is no store"):
        create_store(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 99}', "install a newer"),
        ('{"format": 0}', "no longer reads"),
        ("{}", "does not state a format"),
        ("nonsense", "does not state a format"),
    ],
)
def test_other_formats_are_refused(tmp_path: Path, content: str, message: str) -> None:
    create_store(tmp_path / "x.lens")
    (tmp_path / "x.lens/store.json").write_text(content)
    with pytest.raises(StoreVersionError, match=message):
        open_store(tmp_path / "x.lens")


def test_an_older_format_is_read_as_it_is_and_raised_by_the_first_writer(tmp_path: Path) -> None:
    create_store(tmp_path / "x.lens")
    file = tmp_path / "x.lens/store.json"
    file.write_text('{"format": 1}\n')
    with open_store(tmp_path / "x.lens"):
        assert read_format(tmp_path / "x.lens") == 1
    assert file.read_text() == '{"format": 1}\n'
    raise_format(tmp_path / "x.lens")
    assert read_format(tmp_path / "x.lens") == FORMAT


def test_readers_and_a_writer_do_not_lock_each_other_out(
    config: IngestConfig, tmp_path: Path, small_shards: None
) -> None:
    path = tmp_path / "x.lens"
    prepared = prepare(path, load(config))
    with open_store(path) as early:
        ingest(prepared, Part(0, 2), Progress())
        with open_store(path) as middle:
            reading = middle.cursor().execute("SELECT token_index FROM tokens")
            first = reading.fetchone()
            ingest(prepared, Part(1, 2), Progress())
            assert first is not None and reading.fetchall()
            with open_store(path) as late:
                counts = [
                    s.cursor().execute("SELECT count(*) FROM tokens").fetchone()
                    for s in (early, middle, late)
                ]
    assert counts[0] == (0,)
    assert counts[1] is not None and counts[2] is not None
    assert 0 < counts[1][0] < counts[2][0] == prepared.run.n_tokens


def test_reading_writes_nothing(store_path: Path) -> None:
    def state() -> dict[str, int]:
        return {str(p): p.stat().st_mtime_ns for p in store_path.rglob("*")}

    before = state()
    with open_store(store_path) as store:
        store.cursor().execute("SELECT count(*) FROM codes").fetchall()
    verify_store(store_path)
    assert state() == before


def test_a_confined_store_reads_itself_and_nothing_else(store_path: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with open_store(store_path) as store:
        confine(store)
        con = store.cursor()
        assert con.execute("SELECT count(*) FROM codes").fetchone() != (0,)
        for statement in (
            f"SELECT * FROM read_csv('{tmp_path}/secret.csv')",
            f"COPY (SELECT 1) TO '{tmp_path}/out.csv'",
            "INSTALL httpfs",
            "SET enable_external_access = true",
            f"ATTACH '{tmp_path}/x.duckdb'",
        ):
            with pytest.raises(duckdb.Error):
                con.execute(statement)


def test_a_session_interrupts_its_cursors_and_refuses_new_ones(store: Store) -> None:
    session = Session(store)
    cursor = session.cursor()
    session.interrupt()
    with pytest.raises(duckdb.InterruptException):
        session.cursor()
    assert cursor.execute("SELECT 1").fetchone() == (1,)
    assert store.cursor().execute("SELECT 1").fetchone() == (1,)


def test_closing_stops_a_query_that_runs(store_path: Path) -> None:
    store = open_store(store_path)
    cursor = store.cursor()
    cursor.execute("SET enable_progress_bar = true; SET enable_progress_bar_print = false")
    with ThreadPoolExecutor(1) as pool:
        endless = pool.submit(
            cursor.execute,
            "SELECT sum(a.i * b.i % 7) FROM range(1000000000) a(i), range(1000000000) b(i)",
        )
        while cursor.query_progress() < 0:
            assert not endless.done()
        store.close()
        with pytest.raises(duckdb.InterruptException):
            endless.result()
    with pytest.raises(duckdb.ConnectionException):
        store.cursor()


def test_the_catalogue_file_serves_a_plain_duckdb(copy: Path, tmp_path: Path) -> None:
    write_catalog(copy)
    program = (
        "import duckdb; con = duckdb.connect(r'{}', read_only=True); "
        "run, sae = con.execute('SELECT run_id, sae_id FROM saes ORDER BY sae_id').fetchall()[0]; "
        "print(con.execute('SELECT count(*) FROM codes').fetchall()[0][0], "
        "len(con.sql(f\"FROM best_features('{{run}}', '{{sae}}', k := 3)\").fetchall()))"
    ).format(copy / "catalog.duckdb")
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    with open_store(copy) as store:
        n = store.cursor().execute("SELECT count(*) FROM codes").fetchone()
    assert n is not None and done.stdout.split() == [str(n[0]), "3"]


def problems(path: Path) -> str:
    return "\n".join(f"{p.where}: {p.what}" for p in verify_store(path))


def test_a_sound_store_verifies(store_path: Path) -> None:
    assert verify_store(store_path) == []


def test_verify_sees_one_changed_byte(copy: Path) -> None:
    file = shard(copy) / "codes.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert "codes.parquet: its checksum is not that of the manifest" in problems(copy)


def test_verify_sees_missing_and_stray_files_and_broken_records(copy: Path) -> None:
    (shard(copy) / "tokens.parquet").rename(shard(copy) / "stray.parquet")
    found = problems(copy)
    assert "tokens.parquet: the file is missing" in found
    assert "stray.parquet: no manifest lists this file" in found
    with pytest.raises(StoreDamagedError, match=r"tokens\.parquet' is missing"):
        open_store(copy)
    StoreLayout(copy).runs()[0].run_json.write_text("{}")
    assert "does not describe a run" in problems(copy)


def rewrite(path: Path, table: str, change: Any) -> None:
    """Change a shard's table and its manifest alike, so that only its keys are wrong."""
    folder = shard(path)
    rows = pl.from_arrow(pq.read_table(folder / f"{table}.parquet"))
    changed = change(rows).to_arrow().cast(TABLES[table].arrow)
    pq.write_table(changed, folder / f"{table}.parquet")
    old = read_manifest(folder)
    entries = [
        entry_of(folder, folder / e.path, e.table, changed.num_rows) if e.table == table else e
        for e in old.files
    ]
    write_manifest(folder, Manifest(tuple(entries)))
    shutil.rmtree(StoreLayout(path).runs()[0].index)


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("codes", lambda r: pl.concat([r, r.head(3)]), "3 keys of codes stand there twice"),
        ("tokens", lambda r: r.slice(1), "rows of codes have no row in tokens"),
        ("texts", lambda r: r.slice(1), "rows of contexts have no row in texts"),
        ("tokens", lambda r: r.with_columns(pos=pl.col("pos") + 1), "is not context_id"),
        ("codes", lambda r: r.with_columns(feature_id=pl.lit(10**6)), "outside its SAE"),
        ("codes", lambda r: r.with_columns(activation=pl.lit(0.0)), "zero or no number"),
        ("tokens", lambda r: r.with_columns(energy=pl.lit(-1.0)), "energies below zero"),
        ("contexts", lambda r: r.with_columns(n_tokens=pl.lit(1)), "tokens are not as many"),
    ],
)
def test_verify_sees_wrong_keys(copy: Path, table: str, change: Any, message: str) -> None:
    rewrite(copy, table, change)
    assert message in problems(copy)


def test_two_different_runs_of_one_name_do_not_merge(copy: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(copy, tmp_path / "other.lens"))
    record = StoreLayout(other).runs()[0].run_json
    run = read_run(record)
    for changes in (
        {"versions": {**run.versions, "identity": "another"}},
        {"n_ctx": run.n_ctx + 1},
        {"n_contexts": run.n_contexts + 1},
        {"n_shards": run.n_shards + 1},
    ):
        write_run(record, replace(run, **changes))
        with pytest.raises(StoreError, match="different runs under one name"):
            merge_stores(copy, [other])
    with pytest.raises(StoreError, match="into itself"):
        merge_stores(copy, [copy])


def test_a_store_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"cannot write to .*Not a directory"):
        create_store(tmp_path / "file" / "x.lens")


def test_arrow_types_have_sql_names() -> None:
    from energylens.db.views import sql_type

    assert sql_type(pa.list_(pa.float32())) == "FLOAT[]"
    for table in TABLES.values():
        for column in table.columns:
            assert sql_type(column.type)


def test_cursors_share_the_settings_of_the_store(store: Store) -> None:
    found = (
        store.cursor()
        .execute(
            "SELECT name, value FROM duckdb_settings() "
            "WHERE name IN ('parquet_metadata_cache', 'python_enable_replacements')"
        )
        .fetchall()
    )
    assert dict(found) == {"parquet_metadata_cache": "true", "python_enable_replacements": "false"}
