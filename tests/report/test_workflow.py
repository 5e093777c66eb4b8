"""The workflow of examples/ that reviews a checkpoint: its own steps let one through that reads
better than the one before, and stop a worse one, with a report either way."""

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from energylens.cli import app
from tests.conftest import make_gpt2

WORKFLOW = Path(__file__).resolve().parents[2] / "examples" / "review-checkpoint.yml"
STAND_IN = '#!/bin/bash\nprintf "%s\\0" "$@" >> words\necho >> words\n'
"""Writes down what it is asked, a line a command."""


@pytest.fixture(scope="module")
def sure(save_model: Callable[..., Path]) -> Path:
    """The tests' model, three times as sure of what it says, and so more often wrong for sure."""
    model = make_gpt2()
    with torch.no_grad():
        model.transformer.ln_f.weight.mul_(3)
    return save_model(model)


def drawn_texts() -> list[dict[str, str]]:
    """As many as intervals need."""
    words = ["the", "cat", "sat", "on", "a", "mat", "dog", "barks", "1", "+", "="]
    by = random.Random(0)
    return [
        {"text": " ".join(by.choices(words, k=by.randint(4, 12))), "category": "ab"[n % 2]}
        for n in range(24)
    ]


def reviewed(folder: Path, before: Path, after: Path) -> tuple[int, str]:
    """How the step that compares ends, and what is shown of it."""
    for name, model in (("before", before), ("after", after)):
        shutil.copytree(model, folder / name / "model")
        (folder / name / "heldout.jsonl").write_text("\n".join(map(json.dumps, drawn_texts())))
    (folder / "bin").mkdir()
    (folder / "bin" / "energylens").write_text(STAND_IN)
    (folder / "bin" / "energylens").chmod(0o755)
    environment = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "GITHUB_STEP_SUMMARY": "summary.md",
    }  # fmt: skip
    workflow = yaml.safe_load(WORKFLOW.read_text("utf-8"))
    code, found = None, CliRunner()
    for step in workflow["jobs"]["review"]["steps"]:
        if step.get("name") in (None, "Install") or (code and step.get("if") != "always()"):
            continue
        (folder / "words").write_text("")
        subprocess.run(["bash", "-e", "-c", step["run"]], cwd=folder, env=environment, check=True)
        for line in (folder / "words").read_text().splitlines():
            done = found.invoke(app, line.split("\0")[:-1])
            code = done.exit_code
            assert code == 0 or (step["name"], code) == ("Compare", 3), done.output
    assert code is not None
    return code, (folder / "summary.md").read_text("utf-8")


def test_a_worse_checkpoint_is_stopped_and_a_better_one_is_not(
    tmp_path: Path, gpt2_dir: Path, sure: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, before, after, code, verdict in (
        ("worse", gpt2_dir, sure, 3, "Out of bounds: "),
        ("better", sure, gpt2_dir, 0, "Within all bounds: "),
    ):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        found, shown = reviewed(tmp_path / name, before, after)
        assert found == code and shown.startswith(f"# after against before\n\n**{verdict}")
