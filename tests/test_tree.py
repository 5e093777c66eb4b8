"""The shape of the repository: small files, no packages under tests, documented commands."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.py", "*.sql", "*.tcss"],
        capture_output=True, text=True, cwd=ROOT, check=False,
    ).stdout.split()
]  # fmt: skip


@pytest.mark.skipif(not FILES, reason="needs a git checkout")
def test_files_are_short() -> None:
    long = {str(f): n for f in FILES if (n := len(f.read_text("utf-8").splitlines())) > 400}
    assert not long


def test_no_package_under_tests_hides_ours() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_every_module_says_what_it_is_for() -> None:
    for file in FILES:
        if file.suffix == ".py" and file.exists():
            assert file.read_text("utf-8").lstrip().startswith('"""'), file


def test_a_page_names_every_command() -> None:
    from energylens.cli import app

    page = (ROOT / "docs/commands.md").read_text("utf-8")
    names = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    for name in [*names, "train lm", "train sae"]:
        assert f"energylens {name}" in page, name
