"""SQL that would write, from a user who was told to paste it: nothing changes, in files or in the
catalogue; and what reads still runs."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energylens.db.store import Store, confine
from energylens.errors import QueryError
from energylens.queries.adhoc import run_sql
from energylens.queries.catalog import open_catalog
from energylens.queries.reading import Reading
from tests.hostile.conftest import N_CASES

WRITES = [
    "COPY (FROM tokens LIMIT 5) TO '{shard}'",
    "COPY tokens TO '{root}/x.csv'",
    "COPY (SELECT 1) TO '{root}/store.json' (FORMAT csv)",
    "COPY (PIVOT texts ON category) TO '{root}/x.csv'",
    "COPY runs FROM '{root}/x.csv'",
    "EXPORT DATABASE '{root}/x'",
    "IMPORT DATABASE '{root}/x'",
    "INSERT INTO runs FROM runs",
    "INSERT INTO runs BY NAME SELECT 'x' AS run_id",
    "INSERT OR REPLACE INTO runs FROM runs",
    "INSERT INTO runs FROM runs RETURNING run_id",
    "UPDATE runs SET run_id = 'x'",
    "UPDATE runs SET run_id = 'x' RETURNING run_id",
    "DELETE FROM runs",
    "DELETE FROM runs RETURNING run_id",
    "TRUNCATE runs",
    "MERGE INTO runs USING runs AS b ON runs.run_id = b.run_id WHEN MATCHED THEN DELETE",
    "CREATE TABLE x AS SELECT 1",
    "CREATE OR REPLACE TABLE runs AS SELECT 1 AS a",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE TEMP TABLE x AS PIVOT texts ON category",
    "CREATE OR REPLACE TEMP VIEW energies AS SELECT 1",
    "CREATE OR REPLACE VIEW energies AS SELECT 1 AS energy",
    "CREATE VIEW x AS FROM tokens",
    "CREATE SCHEMA x",
    "CREATE SEQUENCE x",
    "CREATE TYPE x AS ENUM ('a')",
    "CREATE MACRO x(a) AS a + 1",
    "CREATE OR REPLACE MACRO efas_ranking(a) AS TABLE SELECT a",
    "CREATE INDEX x ON runs(run_id)",
    "CREATE SECRET x (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "DROP VIEW tokens",
    "DROP TABLE runs",
    "DROP MACRO TABLE efas_ranking",
    "DROP SCHEMA main CASCADE",
    "ALTER TABLE runs RENAME TO x",
    "ALTER TABLE runs ADD COLUMN x INTEGER",
    "ALTER VIEW tokens RENAME TO x",
    "COMMENT ON TABLE runs IS 'x'",
    "ATTACH '{root}/x.duckdb'",
    "ATTACH ':memory:' AS x",
    "ATTACH '{root}/catalog.duckdb' AS x",
    "DETACH memory",
    "USE temp",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "VACUUM",
    "VACUUM ANALYZE",
    "ANALYZE",
    "SET threads = 1",
    "SET GLOBAL memory_limit = '1TB'",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "SET VARIABLE x = 1",
    "SET VARIABLE x = (FROM (PIVOT texts ON category) LIMIT 1)",
    "RESET threads",
    "RESET ALL",
    "PRAGMA threads = 1",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA profiling_output = '{root}/x.json'",
    "PRAGMA database_list",
    "PRAGMA import_database('{root}/x')",
    "CALL enable_logging(storage := 'file', storage_path := '{root}/x')",
    "CALL force_checkpoint()",
    "CALL pragma_version()",
    "INSTALL httpfs",
    "LOAD '{root}/x.duckdb_extension'",
    "FORCE INSTALL httpfs FROM community",
    "UPDATE EXTENSIONS",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "DEALLOCATE x",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "COMMIT; DELETE FROM runs",
    "SELECT 1; DELETE FROM runs",
    "SELECT 1;; DROP VIEW tokens",
    "WITH d AS (DELETE FROM runs RETURNING run_id) SELECT * FROM d",
    "WITH d AS (TRUNCATE runs) SELECT 1",
    "WITH d AS (INSERT INTO runs FROM runs RETURNING run_id) FROM d",
    "WITH d AS (UPDATE runs SET run_id = 'x' RETURNING run_id) FROM d",
    "WITH d AS (COPY (SELECT 1) TO '{root}/x.csv') SELECT 1",
    "WITH d AS MATERIALIZED (COPY (SELECT 1) TO '{shard}') SELECT 1",
    "WITH a AS (SELECT 1), d AS (COPY tokens TO '{shard}') FROM a",
    "WITH d AS (WITH e AS (SELECT 1) COPY (FROM e) TO '{root}/x.csv') SELECT 1",
    "WITH d AS (DELETE FROM runs RETURNING run_id) PIVOT d ON run_id",
    "WITH d AS (COPY (SELECT 1) TO '{root}/x.csv') PIVOT texts ON category",
    "FROM enable_logging(storage := 'file', storage_path := '{root}/x')",
    "FROM enable_profiling()",
    "FROM disable_logging()",
    "FROM truncate_duckdb_logs()",
    "FROM checkpoint()",
    'FROM "force_checkpoint"()',
    "FROM system.main.checkpoint()",
    "PIVOT (FROM checkpoint()) ON success",
    'PIVOT (FROM system . main . "checkpoint" /* */ ()) ON success',
    "FROM query('SELECT 1')",
    "FROM query('WITH d AS (COPY (SELECT 1) TO ''{root}/x.csv'') SELECT 1')",
    "FROM json_execute_serialized_sql('{{}}')",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
    "FROM arrow_scan(1::POINTER, 2::POINTER, 3::POINTER)",
    "FROM python_map_function(1)",
    "FROM pandas_scan(1)",
    "FROM read_duckdb('{root}/catalog.duckdb')",
    "FROM duckdb_secrets()",
    "FROM register_external_resource('x', 'y')",
    "SELECT nextval('x')",
    "SELECT setval('x', 1)",
    "SELECT setseed(0.5)",
    "SELECT write_log('x')",
    "SELECT sleep_ms(1)",
    "SELECT getenv('HOME')",
    "SELECT 'HOME'.getenv()",
    "FROM read_csv('/etc/passwd')",
    "FROM read_text('/etc/hostname')",
    "FROM read_blob('/proc/self/environ')",
    "FROM read_json('/etc/*')",
    "FROM '/etc/passwd'",
    "FROM sniff_csv('/etc/passwd')",
    "FROM parquet_metadata('/etc/passwd')",
    "FROM read_text('{root}/../outside.txt')",
    "FROM read_csv('http://127.0.0.1:9/x')",
    "DESCRIBE '/etc/passwd'",
    "SUMMARIZE '/etc/passwd'",
    "",
    ";",
    "-- nothing",
    "EXPLAIN",
    "SELECT",
    "SELECT '\udc80'",
    "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "SELECT " + "[" * 900 + "1" + "]" * 900 + "::VARCHAR FROM nothing",
    "SELECT \0",
]
READS = [
    "SELECT count(*) FROM tokens",
    "FROM runs",
    "TABLE runs",
    "VALUES (1), (2)",
    "DESCRIBE tokens",
    "SHOW TABLES",
    "SHOW ALL TABLES",
    "SUMMARIZE texts",
    "PIVOT texts ON category",
    "PIVOT texts ON category USING count(*) GROUP BY source",
    "(PIVOT texts ON category)",
    "FROM (PIVOT texts ON category)",
    "WITH t AS (FROM texts) PIVOT t ON category",
    "PIVOT texts ON category IN ('animals')",
    "UNPIVOT (SELECT 1 AS a, 2 AS b) ON a, b",
    "SELECT 'DELETE FROM runs; COPY' AS \"update\" -- CREATE",
    "WITH RECURSIVE r AS (SELECT 1 AS x UNION ALL SELECT x + 1 FROM r WHERE x < 3) FROM r",
    "SELECT random() < 2, uuid() IS NULL, now() IS NULL",
    "FROM duckdb_tables()",
    "SELECT unnest([1, 2]) AS x, CAST('1' AS DECIMAL(3, 1)), MAP {'a': 1}, "
    "list_transform([1], lambda x: x + 1) FROM range(1) AS t(y)",
]
EXPLAINS = ["EXPLAIN", "explain /* x */ analyze", "EXPLAIN (FORMAT json)", "EXPLAIN -- x\n ANALYZE"]


@pytest.fixture(scope="module")
def hostile(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    root = tmp_path_factory.mktemp("sql") / "s.lens"
    shutil.copytree(store_path, root)
    (root.parent / "outside.txt").write_text("outside")
    with open_catalog(root) as store:
        confine(store)
        yield store


def _filled(text: str, store: Store) -> str:
    shard = next(store.path.rglob("tokens.parquet"))
    return text.replace("{root}", str(store.path)).replace("{shard}", str(shard))


def _state(store: Store) -> tuple[dict, dict]:
    """Every file beside and in the store, and everything of ours that the catalogue holds."""
    files = {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(store.path.parent.rglob("*"))
        if path.is_file()
    }
    con = store.cursor()
    own = {
        "duckdb_tables": "* EXCLUDE (estimated_size)", "duckdb_views": "*", "duckdb_schemas": "*",
        "duckdb_databases": "*", "duckdb_functions": "function_name, macro_definition",
        "duckdb_types": "type_name",
    }  # fmt: skip
    listed = {
        name: con.execute(
            f"SELECT {columns} FROM {name}() WHERE NOT internal ORDER BY ALL"
        ).fetchall()
        for name, columns in own.items()
    } | {
        name: con.execute(f"FROM {name} ORDER BY ALL").fetchall()
        for name in (
            "duckdb_sequences()", "duckdb_indexes()", "duckdb_settings()", "duckdb_variables()",
            "runs", "saes",
        )
    }  # fmt: skip
    con.close()
    return files, listed


@pytest.fixture(scope="module")
def before(hostile: Store) -> tuple[dict, dict]:
    run_sql(hostile.cursor(), "SELECT 1")
    return _state(hostile)


@pytest.mark.parametrize("text", WRITES, ids=range(len(WRITES)))
def test_what_writes_is_refused_alone_and_explained(
    hostile: Store, before: tuple, text: str
) -> None:
    for prefix in ["", *EXPLAINS]:
        cursor = hostile.cursor()
        with pytest.raises(QueryError):
            run_sql(cursor, f"{prefix} {_filled(text, hostile)}")
    assert _state(hostile) == before


@pytest.mark.parametrize("text", READS)
def test_what_reads_runs_alone_and_explained(hostile: Store, before: tuple, text: str) -> None:
    cursor = hostile.cursor()
    assert len(run_sql(cursor, text).rows)
    for prefix in EXPLAINS:
        assert len(run_sql(cursor, f"{prefix} {text}").rows)
    assert _state(hostile) == before


FRAMES = [
    "{}", "({})", "SELECT * FROM ({}) AS q", "WITH c AS ({}) FROM c", "WITH c AS ({}) SELECT 1",
    "SELECT ({})", "SELECT 1 WHERE EXISTS ({})", "{} UNION ALL {}", "EXPLAIN {}", "SUMMARIZE {}",
    "EXPLAIN ANALYZE {}", "DESCRIBE {}", "PIVOT ({}) ON run_id", "UNPIVOT ({}) ON COLUMNS(*)",
    "CREATE TEMP TABLE zz AS {}", "COPY ({}) TO '{root}/zz.csv'", "{};", "/* */ {} -- x", "{}; {}",
    "PREPARE p AS {}", "FROM query($${}$$)", "WITH c AS MATERIALIZED ({}) PIVOT c ON run_id",
    "SET VARIABLE v = ({})", "EXPLAIN (ANALYZE, FORMAT json) {}", "CALL query($${}$$)",
]  # fmt: skip


@settings(max_examples=N_CASES, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(FRAMES), max_size=3),
    st.sampled_from([w for w in WRITES if len(w) < 1000] + READS),
    st.sampled_from(["{}", "\n{}", " {} ", "\ufeff{}", "{}\t"]),
)
def test_statements_put_into_each_other_change_nothing(
    hostile: Store, before: tuple, frames: list[str], inner: str, space: str
) -> None:
    text = inner
    for frame in frames:
        text = frame.replace("{}", space.replace("{}", text))
    with suppress(QueryError):  # refused; what ran must have changed as little
        run_sql(hostile.cursor(), _filled(text, hostile), limit=10)
    assert _state(hostile) == before


def test_the_second_wall_holds_alone(hostile: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tree were misjudged, DuckDB itself still keeps the catalogue from changing."""
    before = _state(hostile)
    monkeypatch.setattr(
        "energylens.queries.adhoc.reading_statement", lambda _, text: Reading(text, None)
    )
    for text in WRITES:
        if text.startswith(
            ("INSERT", "UPDATE runs", "DELETE", "DROP", "CREATE OR", "WITH d AS (D")
        ):
            with suppress(QueryError):  # a temporary view is not refused, but undone
                run_sql(hostile.cursor(), text)
            assert _state(hostile) == before, text


def test_words_of_sql_in_names_and_text_harm_no_pivot(hostile: Store) -> None:
    text = 'PIVOT (SELECT \'copy\' AS "delete") ON "delete"'
    assert run_sql(hostile.cursor(), text).rows.columns == ["copy"]
    with pytest.raises(QueryError, match="put it in double quotes"):
        run_sql(hostile.cursor(), "PIVOT (SELECT 1 AS copy) ON copy")


def test_a_cursor_goes_on_after_an_error(hostile: Store) -> None:
    cursor: duckdb.DuckDBPyConnection = hostile.cursor()
    for _ in range(3):
        with pytest.raises(QueryError):
            run_sql(cursor, "SELECT 1 / (SELECT 0)::INTEGER, error('x')")
        assert run_sql(cursor, "SELECT 1 AS a").rows["a"].to_list() == [1]


def test_brackets_that_keep_the_parser_busy_are_told_before_it_sees_them(hostile: Store) -> None:
    for text in ("SELECT " + "(" * 3000, "SELECT " + "(1 + " * 600 + "1" + ")" * 600):
        with pytest.raises(QueryError, match="more than 500 brackets in brackets"):
            run_sql(hostile.cursor(), text)
    deep = "SELECT " + "(" * 400 + "1" + ")" * 400 + " AS one"
    for text in (deep, "SELECT '" + "(" * 3000 + "' AS one", f"{deep} -- " + "(" * 3000):
        assert len(run_sql(hostile.cursor(), text).rows) == 1
