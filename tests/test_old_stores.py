"""A store of an older version is read and written by this one; a newer one is refused."""

import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

import energylens
from energylens.cli import app
from energylens.db.layout import StoreLayout
from energylens.db.merge import merge_stores
from energylens.db.notes import Note, read_notes, write_note
from energylens.db.schema import TABLES
from energylens.db.store import open_store
from energylens.db.verify import verify_store
from energylens.db.version import FORMAT, read_format
from energylens.errors import StoreVersionError
from energylens.ingest.index.build import build_indexes
from energylens.ingest.progress import Progress
from energylens.queries.catalog import call, named_queries, open_catalog
from tests.conftest import OLD_STORE

KNOWN = json.loads(OLD_STORE.with_suffix(".json").read_text("utf-8"))
CHANGED = {"coactivation", "efas", "efas_categories", "energy_permutations", "routing_circuits"}
"""Tables made after the ingest that had other columns then: empty until they are made again."""
MEASURED = ("feature_effects", "anchor_ablations")
SHARDS = [name for name, table in TABLES.items() if table.place == "shard" and name in KNOWN]


TAKEN_BACK = {"effect_agreements": {"correlation_low", "correlation_high"}}
"""Columns whose intervals did not hold their level."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The old store, to write to."""
    return Path(shutil.copytree(OLD_STORE, tmp_path / "old.lens"))


def digests(con: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    """What the code of then wrote down of each column, worked out in the same way."""
    key = ", ".join(f'"{name}"' for name in TABLES[table].key)
    found = con.sql(f"FROM {table} ORDER BY {key}")
    names, rows = found.columns, found.fetchall()
    texts = {
        name: json.dumps([row[i] for row in rows], default=lambda value: value.hex())
        for i, name in enumerate(names)
    }
    return {n: hashlib.sha256(text.encode()).hexdigest()[:16] for n, text in texts.items()}


def same(path: Path, tables: list[str]) -> None:
    """Assert that tables hold what they held then; columns that are new may stand beside."""
    with open_store(path) as store:
        con = store.cursor()
        for table in tables:
            now, gone = digests(con, table), TAKEN_BACK.get(table, set())
            assert not gone & now.keys()
            then = {n: known for n, known in KNOWN[table]["columns"].items() if n not in gone}
            assert {name: now.get(name) for name in then} == then, table


def files(path: Path) -> dict[str, bytes]:
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def test_it_knows_no_place_of_the_machine_that_made_it() -> None:
    assert not [name for name, content in files(OLD_STORE).items() if b"/home/" in content]
    records = [c for name, c in files(OLD_STORE).items() if name.endswith(".json")]
    assert not [c for c in records if b'"/' in c]


def test_every_row_is_read_as_it_was(old: Path) -> None:
    before = files(old)
    assert read_format(old) == 1
    same(old, [table for table in KNOWN if table not in CHANGED])
    with open_catalog(old) as store:
        con = store.cursor()
        for table in TABLES:
            n = con.sql(f"SELECT count(*) FROM {table}").fetchall()[0][0]
            is_kept = table in KNOWN and table not in CHANGED
            assert n == (KNOWN[table]["rows"] if is_kept else 0), table
    assert files(old) == before


def test_named_queries_answer(old: Path) -> None:
    given: dict[str, Any] = {
        "run": "tiny", "sae": "one", "feature": 3, "feature_a": 3, "feature_b": 7,
        "other": 7, "category": "a", "context": 1, "text": 1, "token": 20, "layer": 1,
    }  # fmt: skip
    answered = 0
    with open_catalog(old) as store:
        for name, query in named_queries().items():
            needed = [p.name for p in query.parameters if p.default is None]
            if set(needed) <= set(given):
                call(store, name, **{p: given[p] for p in needed})
                answered += 1
    assert answered > 20


def test_verify_asks_for_the_index_and_for_nothing_else(old: Path) -> None:
    (problem,) = verify_store(old)
    assert problem.where.endswith("tiny/index") and problem.remedy == "run: energylens index"
    (old / "runs/tiny/shards/000000/codes.parquet").unlink()
    assert "000000" in verify_store(old)[0].where


def test_the_index_is_made_anew_and_what_was_measured_stays(old: Path, capsys: Any) -> None:
    assert build_indexes(old, Progress(), n_flips=9) == ["prompt-1fc095fe", "tiny"]
    said = capsys.readouterr().err
    assert "energy_permutations is not shown: an older version measured it" in said
    kept = "logit weights and neighbours are kept as they were, their distributions, decoder norms"
    assert f"{kept}, EFAS by gradients of" in said
    assert read_format(old) == FORMAT
    assert verify_store(old) == []
    same(old, [*SHARDS, *MEASURED, "notes", "explanations", "feature_logits"])
    with open_store(old) as store:
        con = store.cursor()
        found = con.sql("SELECT count(phi) FROM coactivation WHERE run_id = 'tiny'").fetchall()
    assert found == [(KNOWN["coactivation"]["rows"],)]


def test_a_note_is_taken_and_the_others_stay(old: Path) -> None:
    run = StoreLayout(old).run("tiny")
    write_note(run, Note("tiny", "two", 5, is_starred=True, note="seen today"))
    assert [(n.sae_id, n.feature_id) for n in read_notes(run.notes)] == [
        ("one", 7), ("two", 1), ("two", 5),
    ]  # fmt: skip
    assert read_format(old) == FORMAT  # else 0.1.0 would write notes that no sum vouches for
    assert "tiny/index" in verify_store(old)[0].where


def test_it_is_merged_into_a_new_store(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.lens"
    assert merge_stores(new, [old]) == {"prompt-1fc095fe": 1, "tiny": 2}
    assert merge_stores(new, [old]) == {"prompt-1fc095fe": 0, "tiny": 0}
    same(new, [*SHARDS, *MEASURED, "runs", "saes", "notes", "explanations"])
    assert verify_store(new) == [] and read_format(old) == 1


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store of the next format; nobody may change it."""
    path = tmp_path_factory.mktemp("newer") / "newer.lens"
    shutil.copytree(OLD_STORE, path)
    (path / "store.json").write_text(f'{{"format": {FORMAT + 1}, "is": "of fields unknown"}}\n')
    before = files(path)
    yield path
    assert files(path) == before


_COMMANDS = """
info S | verify S | index S | merge S OLD | merge OTHER S | sql S SELECT | queries S
query S find_specialists | search S word | compare S tiny tiny | explain S tiny WORDS --sae one
explain write S --model x --endpoint http://localhost:1/v1
explain score S --model x --endpoint http://localhost:1/v1
efas S tiny --variant own | causality S tiny one | routing S tiny | heads S tiny
repair S tiny --sae one
recompute S tiny --keep activations --hook blocks.0.hook_resid_post
prompt S tiny x | intervene S tiny x --feature 1 --sae one | attribute S tiny x
sources S tiny x --feature 1 --sae one | export headvis S tiny | page S 1 | report S
export list S tiny -o LIST | import list S LIST | mcp S
export duckdb S tiny -o LIST | export delphi S tiny | export neuronpedia S tiny
import graph S WORDS | export graph S x -o LIST
steer S tiny x --feature 1 --sae one | ingest S --model builtin:llama --texts WORDS
"""
COMMANDS = [line.split() for lines in _COMMANDS.strip().splitlines() for line in lines.split("|")]
REFUSED = f"has store format {FORMAT + 1}, this program reads up to {FORMAT}; install a newer"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_newer_format_is_refused_with_what_to_do(
    command: list[str], newer: Path, tmp_path: Path
) -> None:
    (tmp_path / "words.jsonl").write_text('{"text": "a", "feature_id": 1, "description": "b"}\n')
    places = {
        "S": newer, "OLD": OLD_STORE, "OTHER": tmp_path / "other.lens",
        "WORDS": tmp_path / "words.jsonl", "SELECT": "SELECT 1", "LIST": tmp_path / "list.json",
    }  # fmt: skip
    found = CliRunner().invoke(app, [str(places.get(word, word)) for word in command])
    assert (found.exit_code, REFUSED in found.stderr) == (1, True), found.output
    assert not (tmp_path / "other.lens").exists()


def test_every_command_that_takes_a_store_is_tried() -> None:
    tried = {command[0] for command in COMMANDS} | {"tui"}
    takes = {
        c.name or c.callback.__name__
        for c in app.registered_commands
        if c.callback and "store" in c.callback.__annotations__
    }
    assert takes - tried <= {"demo", "worker", "doctor"}  # which tells it as what it found


def test_a_newer_format_is_refused_in_python(newer: Path) -> None:
    with pytest.raises(StoreVersionError, match=REFUSED):
        energylens.open(newer)


def test_a_newer_format_is_refused_by_the_tui(newer: Path) -> None:
    """At a terminal of its own: without one it would say that first."""
    master, slave = pty.openpty()
    try:
        command = [sys.executable, "-m", "energylens", "tui", str(newer)]
        code = subprocess.run(
            command, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"},
            timeout=120, check=False,
        ).returncode  # fmt: skip
        said = os.read(master, 1 << 16).decode()
    finally:
        os.close(master)
        os.close(slave)
    assert code == 1
    assert REFUSED in " ".join(said.split())
    assert "\x1b[?1049h" not in said  # no screen was opened for it
