"""Where a store lies: copies answer for themselves, paths are names, nothing leads out of it."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from energylens.db.explanations import Explanation, write_explanations
from energylens.db.layout import StoreLayout
from energylens.db.merge import merge_stores
from energylens.db.provenance import read_run
from energylens.db.schema import TABLES
from energylens.db.sources import in_place, pattern_of
from energylens.db.store import confine, open_store
from energylens.db.verify import verify_store
from energylens.errors import StoreDamagedError, StoreError
from energylens.ingest.explanations import explain
from energylens.queries.adhoc import run_sql
from energylens.queries.catalog import open_catalog, write_catalog

COUNTED = "SELECT count(*), sum(layer), sum(token_index), min(run_id) FROM energies"
COLUMNS = sorted({c.name for table in TABLES.values() for c in table.columns})


@pytest.fixture(scope="module")
def catalogued(store_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its catalogue file; to be copied."""
    path = Path(shutil.copytree(store_path, tmp_path_factory.mktemp("catalogued") / "home.lens"))
    write_catalog(path)
    return path


@pytest.fixture
def home(catalogued: Path, tmp_path: Path) -> Path:
    """A store of one's own, with its catalogue file."""
    return Path(shutil.copytree(catalogued, tmp_path / "home.lens"))


def plain(file: Path | str, sql: str = COUNTED, before: str = "", **options: Any) -> Any:
    """What a client that knows nothing of Energy-Lens reads."""
    with duckdb.connect(str(file), **options) as con:
        if before:
            con.execute(before)
        return con.execute(sql).fetchall()


def shorten(path: Path) -> None:
    """Take the energies' last rows away, so that the store can be told from its copies."""
    file = StoreLayout(path).runs()[0].complete_shards()[0] / "energies.parquet"
    pl.read_parquet(file).head(5).write_parquet(file)


def rsynced(source: Path, target: Path) -> None:
    subprocess.run(["rsync", "-a", f"{source}/", str(target)], check=True)


@pytest.mark.parametrize("copied", [shutil.copytree, shutil.move, rsynced])
def test_a_copy_answers_for_itself(
    home: Path, tmp_path: Path, copied: Callable[[Path, Path], object], monkeypatch: Any
) -> None:
    if copied is rsynced and shutil.which("rsync") is None:
        pytest.skip("rsync is not installed")
    whole = plain(home / "catalog.duckdb")
    copied(home, tmp_path / "other.lens")
    other = tmp_path / "other.lens" / "catalog.duckdb"
    shorten(other.parent)
    assert plain(other)[0][0] < whole[0][0]
    if home.exists():
        assert plain(home / "catalog.duckdb") == whole
    for place in (other.parent, tmp_path, Path("/")):
        monkeypatch.chdir(place)
        assert plain(os.path.relpath(other), read_only=True) == plain(other)


def test_a_catalogue_that_cannot_know_its_place_refuses(home: Path, tmp_path: Path) -> None:
    attach = f"ATTACH '{home}/catalog.duckdb' AS lens; "
    counted = "SELECT count(*) FROM lens.energies"
    with pytest.raises(duckdb.Error, match="SET VARIABLE energylens_store"):
        plain(":memory:", counted, attach)
    told = f"{attach} SET VARIABLE energylens_store = '{home}'"
    assert plain(":memory:", counted, told)[0][0] == plain(home / "catalog.duckdb")[0][0]
    shutil.copytree(home, tmp_path / "other.lens")
    with pytest.raises(duckdb.Error, match="two catalogues"):
        plain(tmp_path / "other.lens" / "catalog.duckdb", counted, attach)


def test_the_catalogue_serves_named_queries_from_any_place(home: Path, tmp_path: Path) -> None:
    moved = Path(shutil.move(home, tmp_path / "s*[1]?.lens"))
    with open_catalog(moved) as store:
        run = store.runs[0].info.run_id
        expected = store.cursor().execute("FROM energy_by_layer($r)", {"r": run}).fetchall()
    assert plain(moved / "catalog.duckdb", f"FROM energy_by_layer('{run}')") == expected


@pytest.mark.parametrize("half", [0, 1])  # all in one path would be more than a system takes
def test_folders_named_like_columns_add_none(home: Path, tmp_path: Path, half: int) -> None:
    with open_store(home) as store:
        expected = store.cursor().execute(COUNTED).fetchall()
    folder = tmp_path.joinpath(*(f"{name}=3" for name in sorted(COLUMNS)[half::2]))
    folder.mkdir(parents=True)
    moved = Path(shutil.move(home, folder / "x.lens"))
    with open_store(moved) as store:
        con = store.cursor()
        assert con.execute(COUNTED).fetchall() == expected
        for table in TABLES.values():
            shown = con.execute(f"SELECT * FROM {table.name} LIMIT 0").description
            assert [c[0] for c in shown or []][: len(table.columns)] == table.arrow.names
    assert plain(moved / "catalog.duckdb") == expected


@pytest.mark.parametrize(
    ("name", "neighbour"),
    [
        ("star*", "starry"), ("any?", "anyx"), ("n[1-9]", "n1"), ("[!a]b", "cb"), ("[", "x"),
        ("**", "y"), ("a]b", "ab"), ("{a,b}", "a"), ("back\\slash", "backslash"), ("it's", "its"),
        ("~", "z"), ("a%20b", "a b"), ("a,b", "a"), ("line\nbreak", "linebreak"), ("é", "e"),
        ("[*][?]", "*?"), ("[[]", "["),
    ],
)  # fmt: skip
def test_a_path_is_a_name(home: Path, tmp_path: Path, name: str, neighbour: str) -> None:
    with open_store(home) as store:
        expected = store.cursor().execute(COUNTED).fetchall()
    shutil.copytree(home, tmp_path / neighbour)
    moved = Path(shutil.move(home, tmp_path / name))
    with open_catalog(moved) as store:
        confine(store)
        assert run_sql(store.cursor(), COUNTED).rows.row(0) == expected[0]
        with pytest.raises(Exception, match=r"outside the store|No files"):
            inner = StoreLayout(tmp_path / neighbour).runs()[0].complete_shards()[0]
            run_sql(store.cursor(), f"SELECT 1 FROM {in_place([inner / 'energies.parquet'])}")
    if "\\" not in name:  # which DuckDB takes for a slash in the name of a database
        assert plain(moved / "catalog.duckdb") == expected
    assert verify_store(moved) == []


def test_a_path_that_duckdb_cannot_be_given_is_refused(tmp_path: Path) -> None:
    for name in ("a\\b*", "x\udce9"):
        with pytest.raises(StoreError, match="rename"):
            pattern_of(tmp_path / name)


def test_explanations_are_read_from_the_named_file_alone(home: Path, tmp_path: Path) -> None:
    run = StoreLayout(home).runs()[0]
    info = read_run(run.run_json)
    for name, text in (("e*.csv", "mine"), ("ex.csv", "not mine")):
        folder = tmp_path / "feature_id=7"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"feature_id,description\n1,{text}\n")
    explain(run, info, [tmp_path / "feature_id=7" / "e*.csv"], info.saes[0].sae_id, False)
    with open_store(home) as store:
        found = store.cursor().execute("SELECT feature_id, description FROM explanations")
        assert found.fetchall() == [(1, "mine")]


def test_the_catalogue_shows_what_was_added_later(home: Path) -> None:
    run = StoreLayout(home).runs()[0]
    write_explanations(run, "s", [Explanation(run.root.name, "s", 1, "said")])
    write_catalog(home)
    shown = plain(home / "catalog.duckdb", "SELECT description FROM explanations")
    assert shown == [("said",)]


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a record as a stranger can, who need not seal it."""
    raw = json.loads(path.read_text())
    raw.pop("seal", None)
    change(raw)
    path.write_text(json.dumps(raw))


def victim(tmp_path: Path) -> Path:
    """A directory beside the store that looks like a run's."""
    path = tmp_path / "victim"
    (path / "index").mkdir(parents=True)
    (path / "index" / "kept").write_text("kept")
    return path


@pytest.mark.parametrize(
    "run_id", ["../../victim", "/victim", "", ".", "..", "other", "a\0b", "x" * 300, 3, None, ["x"]]
)
def test_a_run_has_the_name_of_its_directory(home: Path, tmp_path: Path, run_id: object) -> None:
    kept = victim(tmp_path) / "index" / "kept"
    record = StoreLayout(home).runs()[0].run_json
    changed(record, lambda raw: raw.update(run_id=run_id))
    for use in (open_store, open_catalog, lambda path: merge_stores(tmp_path / "new", [path])):
        with pytest.raises(StoreDamagedError, match=r"run\.json"):
            use(home)
    assert [p.where for p in verify_store(home)] == [str(record)]
    assert kept.read_text() == "kept"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("n_ctx", "64", r"\$\.n_ctx"), ("hooks", "x", r"\$\.hooks"), ("kind", "other", "kind"),
        ("saes", [1], r"\$\.saes\[0\]"), ("versions", {"a": 1}, "versions"), ("news", 1, "'news'"),
    ],
)  # fmt: skip
def test_a_record_names_the_field_that_is_wrong(
    home: Path, field: str, value: object, said: str
) -> None:
    changed(StoreLayout(home).runs()[0].run_json, lambda raw: raw.update({field: value}))
    with pytest.raises(StoreDamagedError, match=said):
        open_store(home)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, '{"a": ' + "9" * 5000 + "}"])
def test_a_record_that_is_none_is_damage(home: Path, text: str) -> None:
    run = StoreLayout(home).runs()[0]
    for path in (run.complete_shards()[0] / "manifest.json", run.run_json):
        path.write_text(text)
        with pytest.raises(StoreDamagedError):
            open_store(home)


def test_a_pipe_in_place_of_a_record_does_not_hang(home: Path) -> None:
    record = StoreLayout(home).runs()[0].run_json
    record.unlink()
    os.mkfifo(record)
    with pytest.raises(StoreDamagedError, match="no plain file"):
        open_store(home)


@pytest.mark.parametrize(
    "name", ["../{out}", "{full}", "", ".", "..", "./energies.parquet", "a//b", "x\0y", "x" * 300]
)
def test_a_manifest_names_files_of_its_directory(home: Path, tmp_path: Path, name: str) -> None:
    folder = StoreLayout(home).runs()[0].complete_shards()[0]
    outside = Path(shutil.copy(folder / "energies.parquet", tmp_path / "out.parquet"))
    out = os.path.relpath(outside, folder.parent)
    entry = name.format(out=out, full=outside)

    def point(raw: dict[str, Any]) -> None:
        next(e for e in raw["files"] if e["table"] == "energies")["path"] = entry

    changed(folder / "manifest.json", point)
    for use in (open_store, open_catalog, write_catalog):
        with pytest.raises(StoreDamagedError):
            use(home)


def test_a_manifest_lists_tables_of_its_directory(home: Path) -> None:
    folder = StoreLayout(home).runs()[0].complete_shards()[0]
    for table in ("nonsense", "features", "runs"):
        changed(folder / "manifest.json", lambda raw, t=table: raw["files"][0].update(table=t))
        with pytest.raises(StoreDamagedError, match=table):
            open_store(home)


@pytest.mark.parametrize("what", ["runs", "run", "shards", "shard", "file", "index", "notes"])
def test_a_store_holds_no_links(home: Path, tmp_path: Path, what: str) -> None:
    run = StoreLayout(home).runs()[0]
    shard = run.complete_shards()[0]
    place = {
        "runs": home / "runs", "run": run.root, "shards": run.shards, "shard": shard,
        "file": shard / "energies.parquet", "index": run.index, "notes": run.notes,
    }[what]  # fmt: skip
    if what == "notes":
        shutil.copy(shard / "energies.parquet", place)
    shutil.move(place, tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreDamagedError, match="is a link"):
        open_store(home)


def test_a_store_may_be_reached_through_a_link(home: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.lens"
    link.symlink_to(home)
    with open_catalog(link) as store:
        confine(store)
        expected = store.cursor().execute(COUNTED).fetchall()
    assert plain(link / "catalog.duckdb") == expected
    assert verify_store(link) == []


def test_a_shard_has_a_number(home: Path) -> None:
    run = StoreLayout(home).runs()[0]
    shutil.copytree(run.complete_shards()[0], run.shards / "²")
    with open_store(home) as store:
        assert store.runs[0].n_complete == store.runs[0].info.n_shards
