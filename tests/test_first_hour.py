"""The commands of docs/first-hour.md run, in the order in which they stand there."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from energylens.cli import app
from tests.energylens.test_python import beside, folder

PAGE = Path(__file__).parents[1] / "docs/first-hour.md"
__all__ = ["beside", "folder"]  # fixtures: the bundled model over a few of the bundled texts


def commands() -> list[str]:
    """All of them but those that open a terminal."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).splitlines()
    assert all(line.startswith("energylens ") for line in lines)
    return [line for line in lines if not line.startswith("energylens tui")]


def test_every_command_runs(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    shutil.copy("many.jsonl", "mine.jsonl")
    assert len(commands()) == 9
    for line in commands():
        result = CliRunner().invoke(app, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
        assert result.output.strip()
    assert list(Path("mine-report").glob("*.html"))
