"""`energylens explain write` and `score`: the whole way with an address that answers, fails and
stops, and what is said where nothing can be asked."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from energylens.cli import app
from energylens.db.layout import StoreLayout
from energylens.db.verify import verify_store
from energylens.explaining import endpoint
from energylens.explaining.endpoint import KEY
from energylens.queries.catalog import open_catalog
from energylens.queries.explanations import scored_explanations
from tests.endpoints import SECRET, Answer, Server, raw, says, serving

FEW = ("--feature", 1, "--feature", 2, "--feature", 5)


@pytest.fixture
def path(rich_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rich_path, tmp_path / "told.lens"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(endpoint, "_WAIT", 0.0)
    monkeypatch.setenv(KEY, SECRET)
    with serving() as told:
        told.rule = answered
        yield told


def answered(body: Any) -> Answer:
    """Explains everything alike, and takes every second excerpt for active."""
    asked = body["messages"][1]["content"]
    if not asked.startswith("Said: "):
        return says('{"explanation": "words about [b]cats[/b]"}')
    return says(str([number % 2 for number in range(asked.count("\n"))]))


def ask(*words: object, code: int = 0) -> tuple[str, str]:
    done = CliRunner().invoke(app, ["explain", *map(str, words)])
    assert done.exit_code == code, (done.output, done.stderr)
    assert SECRET not in done.output and "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_features_are_written_and_judged_through_an_address(path: Path, server: Server) -> None:
    to = ("--sae", "two", "--endpoint", server.url, "--model", "lab/judge-1")
    cost = json.loads(ask("write", path, *to, *FEW, "--estimate", "--json")[0])
    assert not server.seen and cost["n_features"] == 3
    shown, said = ask("write", path, *to, *FEW)
    assert len(server.seen) == cost["n_calls"]
    assert {one[1]["Authorization"] for one in server.seen} == {f"Bearer {SECRET}"}
    assert f"'lab/judge-1' at {server.url}: 3 features, {cost['n_calls']}" in said
    assert "words about [b]cats[/b]" in shown and "3 written" in said and "chance .5" in said
    run = StoreLayout(path).runs()[0]
    with open_catalog(path) as store:
        scored = scored_explanations(store, run.root.name, "two")
        labels = store.cursor().execute(
            "SELECT count(*) FROM explanations WHERE sae_id = 'two' AND method = 'explained'"
        )
        assert labels.fetchone() == (3,)
    assert set(scored["score_type"]) == {"detection", "fuzzing"} and len(scored) == 6
    assert not verify_store(path)
    for file in path.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes()
    n_before = len(server.seen)
    assert "nothing is left to ask" in ask("write", path, *to, *FEW)[1]
    assert len(server.seen) == n_before


def test_an_address_that_stops_in_the_middle_keeps_what_was_done(
    path: Path, server: Server
) -> None:
    to = ("--sae", "two", "--endpoint", server.url, "--model", "j", *FEW)

    def stops(body: Any) -> Answer:
        return answered(body) if len(server.seen) <= 3 else raw(SECRET.encode(), 503)

    server.rule = stops
    said = ask("write", path, *to, code=1)[1]
    assert "status 503" in said and "the same command asks for the rest" in said
    with open_catalog(path) as store:
        n = len(scored_explanations(store, StoreLayout(path).runs()[0].root.name, "two"))
    assert 0 < n < 6
    server.rule = answered
    done = json.loads(ask("write", path, *to, "--json")[0].splitlines()[-1])
    assert done["n_written"] < 3
    with open_catalog(path) as store:
        assert len(scored_explanations(store, StoreLayout(path).runs()[0].root.name, "two")) == 6


def test_anybodys_explanations_are_judged(path: Path, server: Server) -> None:
    shown, said = ask(
        "score", path, "--sae", "one", "--endpoint", server.url, "--model", "j", "--feature", 3
    )
    assert "even numbers" in shown and "0 written" in said
    with open_catalog(path) as store:
        rows = scored_explanations(store, StoreLayout(path).runs()[0].root.name, "one")
    own = rows.filter(pl.col("description") == "even numbers").sort("score_type")
    assert own["score_type"].to_list() == ["detection", "fuzzing", "told"]
    assert own["judge"].to_list() == ["j", "j", ""]


def test_without_a_model_nothing_is_asked_and_nothing_written(path: Path, server: Server) -> None:
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    for words, said in (
        (("write", path, "--sae", "one"), "say which language model"),
        (("write", path, "--sae", "one", "--endpoint", server.url), "say which language model"),
        (("write", path, "--sae", "one", "--endpoint", "x", "--model", "m"), "no http"),
        (("write", path, "--sae", "nine", "--model", "m"), "no SAE 'nine'"),
        (("write", path, "--sae", "one", "--model", "./no", *FEW), "'./no' is no directory"),
        (("write", path, "--sae", "two", "--model", "m"), "without being dense"),
        (("write", path, "--sae", "one", "--model", "m", "--feature", 99), "no feature 99"),
        (("score", path, "--sae", "two", "--model", "m", "--method", "x"), "no explanation"),
        (("write", path, "--sae", "one", "--model", "m", "--top", 0), "--top"),
    ):
        assert said in ask(*words, code=2)[1]
    assert not server.seen
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_files_are_read_where_no_other_command_is_named(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text("feature_id,description\n3,opening brackets\n", encoding="utf-8")
    for words in (
        (path, file, "--sae", "two"),
        ("--sae", "two", path, file),
        ("read", path, file, "--sae", "two"),
    ):
        assert "1 explanations of 1 features" in ask(*words)[1]
    assert "Commands" in ask("--help")[0] and "write" in ask("-h")[0]
