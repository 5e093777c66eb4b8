"""The examples for schedulers: each file's own command, in the variables its scheduler would set,
makes the run that one process makes."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from energylens.db.store import open_store
from energylens.db.verify import verify_store
from energylens.ingest.plan import IngestConfig
from tests.cli.test_cli import run

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Run = Callable[[dict[str, str], list[str]], None]


def tokens(store: Path) -> pl.DataFrame:
    with open_store(store) as opened:
        assert all(state.index == "fresh" for state in opened.runs)
        asked = opened.cursor().sql("SELECT * EXCLUDE (run_id) FROM tokens ORDER BY token_index")
        return pl.DataFrame(asked.to_arrow_table())


@pytest.fixture
def asked(config: IngestConfig) -> list[str]:
    """What is ingested, in the place of the examples' GPT-2."""
    return ["--model", config.model, "--texts", config.texts, "--efas", "none"]


@pytest.fixture
def alone(tmp_path: Path, asked: list[str], small_shards: None) -> pl.DataFrame:
    run("ingest", tmp_path / "alone.lens", *asked)
    return tokens(tmp_path / "alone.lens")


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[[list[str], dict[str, str]], list[str]]:
    """Runs a script of the shell in a folder; the words of its one `energylens ingest`, which
    makes no more than the folder of the store."""
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin" / "energylens"
    stand_in.write_text('#!/bin/bash\nprintf "%s\\0" "$@" >> words\nmkdir -p "$2"\n')
    stand_in.chmod(0o755)

    def record(script: list[str], variables: dict[str, str]) -> list[str]:
        (tmp_path / "words").unlink(missing_ok=True)
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        subprocess.run(["bash", *script], cwd=tmp_path, env={"PATH": path, **variables}, check=True)
        return (tmp_path / "words").read_text().split("\0")[:-1]

    return record


def test_slurm(
    tmp_path: Path, asked: list[str], alone: pl.DataFrame, recorded: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    script = EXAMPLES / "slurm.sbatch"
    found = re.search(r"^#SBATCH --array=(\d+)-(\d+)$", script.read_text(), re.MULTILINE)
    assert found is not None
    tasks = range(int(found[1]), int(found[2]) + 1)
    store = tmp_path / "my.lens"
    for task in tasks:
        numbers = {"ID": task, "MIN": tasks[0], "MAX": tasks[-1], "COUNT": len(tasks)}
        variables = {f"SLURM_ARRAY_TASK_{name}": str(number) for name, number in numbers.items()}
        words = recorded([str(script), str(store), *asked], variables)
        with monkeypatch.context() as patch:
            [patch.setenv(name, value) for name, value in variables.items()]
            assert f"part {task + 1}/{len(tasks)} is done" in run(*words).stderr
    run("index", store)
    assert tokens(store).equals(alone) and verify_store(store) == []


def test_skypilot(
    tmp_path: Path, asked: list[str], alone: pl.DataFrame, recorded: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    task = yaml.safe_load((EXAMPLES / "skypilot.yaml").read_text())
    assert task["envs"]["PARTS"] in task["file_mounts"]
    parts = tmp_path / "parts"
    parts.mkdir()
    given = task["envs"] | {"INGEST": " ".join(asked), "PARTS": str(parts)}
    for node in range(task["num_nodes"]):
        variables = {
            "SKYPILOT_NODE_RANK": str(node), "SKYPILOT_NUM_NODES": str(task["num_nodes"]),
        }  # fmt: skip
        words = recorded(["-c", task["run"]], given | variables)
        assert (parts / words[1]).is_dir()
        with monkeypatch.context() as patch:
            [patch.setenv(name, value) for name, value in variables.items()]
            run(words[0], parts / words[1], *words[2:])
    store = tmp_path / "my.lens"
    run("merge", store, *sorted(parts.glob("part-*.lens")))
    assert tokens(store).equals(alone) and verify_store(store) == []


def test_kubernetes(
    tmp_path: Path, config: IngestConfig, alone: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    store = tmp_path / "my.lens"
    here = {
        "/data/my.lens": str(store), "gpt2": config.model, "/data/corpus.jsonl": config.texts,
    }  # fmt: skip
    program, *words = [here.get(w, w) for w in [*container["command"], *container["args"]]]
    assert program == "energylens" and job["completionMode"] == "Indexed"
    for index in range(job["completions"]):
        with monkeypatch.context() as patch:
            patch.setenv("JOB_COMPLETION_INDEX", str(index))
            [patch.setenv(each["name"], each["value"]) for each in container["env"]]
            assert f"part {index + 1}/{job['completions']} is done" in run(*words).stderr
    run("index", store)
    assert tokens(store).equals(alone) and verify_store(store) == []


def test_any_alone_makes_the_whole_run_and_its_index(
    tmp_path: Path, asked: list[str], alone: pl.DataFrame
) -> None:
    store = tmp_path / "my.lens"
    run("ingest", store, *asked, "--shard", "any")
    assert tokens(store).equals(alone) and verify_store(store) == []
    again = run("ingest", store, *asked, "--shard", "any").stderr
    assert "shards are complete" in again and "index" not in again
