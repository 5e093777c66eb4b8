"""The base install does what the README says of it, and an index made there can be completed."""

import json
import os
import shutil
import subprocess
import sys
from itertools import takewhile
from pathlib import Path

import polars as pl
import pytest

from energylens.db.index_files import entries_of
from energylens.db.layout import StoreLayout
from energylens.ingest.index.build import build_indexes
from energylens.ingest.progress import Progress
from tests import graphs

ROOT = Path(__file__).resolve().parents[1]
EXPLANATION = '{"feature_id": 3, "description": "even numbers"}\n'
SUCCEED = [
    ["index", "{work}/bare.lens"],
    ["index", "{work}/bare.lens"],
    ["merge", "{work}/merged.lens", "{work}/tiny.lens"],
    ["info", "{work}/tiny.lens", "--schema"],
    ["verify", "{work}/bare.lens"],
    ["sql", "{work}/tiny.lens", "SELECT count(*) AS n FROM codes"],
    ["queries", "{work}/tiny.lens"],
    ["query", "{work}/tiny.lens", "category_summary"],
    ["keys"],
    ["presets"],
    ["compare", "{work}/tiny.lens", "{run}", "{run}"],
    ["explain", "{work}/bare.lens", "{run}", "{work}/words.jsonl", "--sae", "resid"],
    ["explain", "write", "{work}/tiny.lens", "{run}", "--sae", "resid", "--model", "x",
     "--endpoint", "http://localhost:1/v1", "--feature", "1", "--estimate"],
    ["export", "list", "{work}/tiny.lens", "-o", "{work}/list.json"],
    ["export", "duckdb", "{work}/tiny.lens", "-o", "{work}/tiny.duckdb"],
    ["import", "graph", "{work}/tiny.lens", "{work}/0.json"],
    ["export", "graph", "{work}/tiny.lens", "small", "-o", "{work}/graph.json"],
    ["export", "neuronpedia", "{work}/tiny.lens", "--sae", "resid", "-o", "{work}/features"],
    ["import", "list", "{work}/tiny.lens", "{work}/list.json"],
    ["doctor"],
]  # fmt: skip
NEED_MORE = [
    ["demo", "--store", "{work}/demo.lens"],
    ["prompt", "{work}/tiny.lens", "{run}", "x"],
    ["tui", "{work}/tiny.lens", "--serve"],
    ["worker"],
    ["mcp", "{work}/tiny.lens"],
]


def named(command: list[str]) -> str:
    """A command without its arguments."""
    return " ".join(takewhile(str.isalpha, command))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, store_path: Path) -> Path:
    work = tmp_path_factory.mktemp("base")
    for name in ("tiny.lens", "bare.lens"):
        shutil.copytree(store_path, work / name)
    shutil.rmtree(StoreLayout(work / "bare.lens").runs()[0].index)
    graphs.write(work, graphs.small())
    (work / "words.jsonl").write_text(EXPLANATION, encoding="utf-8")
    return work


@pytest.fixture(scope="module")
def said(work: Path) -> dict[str, tuple[int, str]]:
    """What each command said where only the base can be imported."""
    run = StoreLayout(work / "tiny.lens").runs()[0].root.name
    commands = [[part.replace("{run}", run) for part in c] for c in [*SUCCEED, *NEED_MORE]]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "without_extras.py"), str(work)],
        input="\n".join(map(json.dumps, commands)), capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(work)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = ["import", "screens", "index", "index again", *(named(c) for c in commands[2:])]
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (code, text) for name, (code, text) in zip(names, answers, strict=True)}


def test_every_module_and_every_screen_opens(said: dict[str, tuple[int, str]]) -> None:
    code, text = said["import"]
    assert code == 0 and int(text.split()[0]) > 80
    assert said["screens"][0] == 0, said["screens"][1]


@pytest.mark.parametrize("name", [named(c) for c in SUCCEED])
def test_a_command_of_the_base_runs(said: dict[str, tuple[int, str]], name: str) -> None:
    code, text = said[name]
    assert code == 0, text


@pytest.mark.parametrize("name", [named(c) for c in NEED_MORE])
def test_what_needs_more_says_what_to_install(said: dict[str, tuple[int, str]], name: str) -> None:
    code, text = said[name]
    extra = {"tui": "web", "mcp": "mcp"}.get(name, "models")
    assert code == 2 and f"this needs the extra '{extra}'" in text and "pip install" in text


def test_doctor_tells_what_each_extra_adds(said: dict[str, tuple[int, str]]) -> None:
    text = said["doctor"][1]
    assert all(f"the extra '{extra}' adds" in text for extra in ("mcp", "models", "web"))
    assert "'torch>=" in text and "textual-serve" in text


def test_index_says_in_a_line_what_it_left_out(said: dict[str, tuple[int, str]]) -> None:
    for text in (said["index"][1], said["index again"][1]):
        (line,) = [line for line in text.splitlines() if "left out" in line]
        assert "every SAE" in line and "torch is not installed" in line
    assert "index made for" in said["index"][1]
    assert "up to date" in said["index again"][1]


def test_an_index_made_without_weights_is_completed_where_they_are(
    said: dict[str, tuple[int, str]], work: Path, store_path: Path
) -> None:
    path = work / "bare.lens"
    (layout,) = StoreLayout(path).runs()
    whole = StoreLayout(store_path).runs()[0].index
    efas = pl.concat(pl.read_parquet(f) for f in layout.index.glob("efas/*.parquet"))
    assert set(efas["variant"]) == {"position", "energy", "drop"}
    assert build_indexes(path, Progress()) == [layout.root.name]
    files, own = entries_of(whole), entries_of(layout.index)
    assert sorted(files) == sorted(own)
    for name, file in files.items():
        one, other = whole / file.path, layout.index / own[name].path
        assert pl.read_parquet(one).equals(pl.read_parquet(other)), name
    assert build_indexes(path, Progress()) == []
