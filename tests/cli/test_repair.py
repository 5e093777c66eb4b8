"""`energylens repair` as a person types it."""

import json
import shutil
from pathlib import Path

import pytest

from energylens.lens.gains import read_gains
from tests.cli.test_cli import run


@pytest.fixture(scope="module")
def path(rich_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(rich_path, tmp_path_factory.mktemp("repair") / "x.lens"))


def test_a_repair_shows_each_condition_and_writes_its_gains(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "gains.safetensors"
    asked = ("repair", path, "--sae", "two", "--top", "4", "--splits", "2", "--no-tuned")
    result = run(*asked, "-o", out)
    for word in ("by attribution", "by efas", "reversed", "matched", "temperature", "beyond"):
        assert word in result.stdout
    assert "fine-tuned" not in result.stdout
    assert "2 splits of 40 texts; 4 features turned by 0.3" in result.stderr
    assert "is not known: --trained-on compares" in result.stderr
    assert len(read_gains(out).features) == 4
    run_id = json.loads(run("sql", path, "SELECT run_id FROM runs", "--format", "json").stdout)
    text = (path, run_id["run_id"], "the cat sat")
    read = run("prompt", *text, "--gains", out, "--json").stdout
    assert read != run("prompt", *text, "--json").stdout
    assert "edited" in run("intervene", *text, "--gains", out, "--no-keep").stdout
    for wrong in ((), ("--gains", out, "--feature", "3")):
        assert "--feature N, or --gains" in run("intervene", *text, *wrong, code=2).stderr
    run("sql", path, "FROM repairs WHERE sae_id = 'two' AND split = -1")
    lines = run(*asked, "-o", out, "--by", "frequency", "--format", "json").stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["against"] for row in rows} == {"nothing", "global gain", "by frequency", "by efas"}
    texts = tmp_path / "texts.txt"
    texts.write_text(run("sql", path, "SELECT text FROM texts LIMIT 1", "--format", "csv").stdout
                     .splitlines()[1])  # fmt: skip
    said = run(*asked, "-o", out, "--trained-on", texts).stderr
    assert "contaminated: the SAE was trained on 1 texts of this run" in said


def test_what_is_wrong_is_said_before_a_model_runs(path: Path, tmp_path: Path) -> None:
    assert "no share to turn" in run("repair", path, "--sae", "two", "--gain", "0", code=2).stderr
    few = run("repair", path, "--sae", "two", "--texts", "8", code=2).stderr
    assert "at least 10 each; here are 8 texts" in few
    assert "--by knows" in run("repair", path, "--sae", "two", "--by", "luck", code=2).stderr
