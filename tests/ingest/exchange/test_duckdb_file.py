"""A run as one DuckDB file: the rows and comments of the store, and queries that run there."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from energylens.db.schema import TABLES
from energylens.errors import StoreError
from energylens.ingest.exchange.duckdb_file import CODES, QUERIES, export_duckdb
from energylens.queries.catalog import named_queries, open_catalog
from energylens.queries.specialists import ranked_specialists

OLDER = """
import sys, duckdb
con = duckdb.connect(sys.argv[1], read_only=False)
for (sql,) in con.sql("SELECT sql FROM queries").fetchall():
    con.execute(sql)
print(con.sql("SELECT count(*) FROM features").fetchall()[0][0])
print(con.sql(sys.argv[2]).fetchall())
"""


@pytest.fixture(scope="module")
def file(rich_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "it's a run.duckdb"
    with open_catalog(rich_path) as store:
        written = export_duckdb(store, store.infos[0].run_id, path)
        n_rows = [store.cursor().sql(f"SELECT count(*) FROM {t}").fetchall()[0][0] for t in TABLES]
    assert (written.n_tables, written.n_rows) == (len(TABLES), sum(n_rows))
    return path


def test_every_row_and_comment_is_there(file: Path, rich_path: Path) -> None:
    with open_catalog(rich_path) as store:
        con = store.cursor()
        con.execute(f"ATTACH '{str(file).replace(chr(39), 2 * chr(39))}' AS file (READ_ONLY)")
        for name in TABLES:
            order = "" if name == "notes" else " ORDER BY ALL"
            mine = con.sql(f"FROM {name}{order}").to_arrow_table()
            its = con.sql(f"FROM file.{name}{order}").to_arrow_table()
            assert its.column_names == mine.column_names
            assert its.equals(mine) or name in ("energies", "feature_codes", "activations"), name
            for one, other in ((name, f"file.{name}"), (f"file.{name}", name)):
                assert con.sql(f"FROM {one} EXCEPT ALL FROM {other} LIMIT 1").fetchall() == []
        said = """SELECT table_name, column_name, comment FROM duckdb_columns()
            WHERE schema_name = 'main' AND database_name = $name AND table_name != 'queries'
            ORDER BY ALL"""
        its, mine = (con.execute(said, {"name": name}).fetchall() for name in ("file", "memory"))
        assert set(its) <= set(mine) and all(comment for _, _, comment in its)
        told = "SELECT table_name, comment FROM duckdb_tables() WHERE database_name = 'file'"
        docs = dict(con.execute(told).fetchall())
        assert {name: docs[name] for name in TABLES} == {n: t.doc for n, t in TABLES.items()}


def test_the_queries_run_in_the_file_alone(file: Path, rich_path: Path) -> None:
    con = duckdb.connect(":memory:")
    con.execute(f"ATTACH '{str(file).replace(chr(39), 2 * chr(39))}' AS file (READ_ONLY)")
    rows = con.execute(f"SELECT name, sql FROM file.{QUERIES}").fetchall()
    assert {name for name, _ in rows} == {"token_class", *named_queries()}
    con.execute("CREATE SCHEMA here; SET search_path = 'memory.here,file.main'")
    for _, sql in rows:
        con.execute(sql)
    with open_catalog(rich_path) as store:
        run = store.infos[0].run_id
        mine = ranked_specialists(store, run, "one", "a", k=5)
        its = con.sql(f"FROM ranked_specialists('{run}', 'one', 'a', k := 5)").pl()
        assert len(mine) and its.equals(mine.select(its.columns), null_equal=True)


def test_codes_may_stay_behind_and_only_the_run_goes_along(rich_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "small.duckdb"
    path.write_text("what was there before", "utf-8")
    with open_catalog(rich_path) as store:
        export_duckdb(store, store.infos[0].run_id, path, with_codes=False)
        export_duckdb(store, "another", tmp_path / "none.duckdb")
    with duckdb.connect(str(path), read_only=True) as con:
        there = {
            name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()
        }
    assert there == set(TABLES) - CODES | {QUERIES}
    with duckdb.connect(str(tmp_path / "none.duckdb"), read_only=True) as con:
        assert con.execute("SELECT count(*) FROM tokens").fetchall() == [(0,)]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["none.duckdb", "small.duckdb"]


def test_what_is_no_file_is_refused_and_stays(rich_path: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with open_catalog(rich_path) as store:
        for place, said in (
            (tmp_path / "pipe", "is no file"),
            (tmp_path, "is no file"),
            (tmp_path / "nowhere" / "x.duckdb", "cannot write"),
        ):
            with pytest.raises(StoreError, match=said):
                export_duckdb(store, store.infos[0].run_id, place)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.hub
def test_duckdb_1_4_reads_it(file: Path, rich_path: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "duckdb==1.4.0"], check=True)
    with open_catalog(rich_path) as store:
        run = store.infos[0].run_id
        mine = ranked_specialists(store, run, "one", "a", k=1)
    asked = f"SELECT feature_id, score FROM ranked_specialists('{run}', 'one', 'a', k := 1)"
    found = subprocess.run([python, "-c", OLDER, file, asked], check=True, capture_output=True)
    assert found.stdout.decode().split("\n")[1] == str(mine.select("feature_id", "score").rows())
