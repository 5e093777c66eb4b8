"""Help fits 80 columns, in whole sentences, with examples that the commands take."""

import shlex
import subprocess
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from energylens.cli import app
from energylens.cli.examples import EXAMPLES
from energylens.cli.groups import first_sentence

WIDTH = 80


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command with its words; groups are passed through."""
    if not hasattr(command, "commands"):
        yield " ".join(path), command
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*path, name))


ROOT: Any = typer.main.get_command(app)
LEAVES = dict(leaves(ROOT))
GROUPS = ["", *(name for name, inner in ROOT.commands.items() if hasattr(inner, "commands"))]


def shown(path: str) -> str:
    done = CliRunner().invoke(app, [*path.split(), "--help"], env={"COLUMNS": str(WIDTH)})
    assert done.exit_code == 0
    return done.stdout


def words(text: str) -> str:
    """A text on one line; lines may end at a hyphen."""
    return " ".join(text.split()).replace("- ", "-")


def test_there_is_an_example_for_every_command_and_for_no_other() -> None:
    assert sorted(EXAMPLES) == sorted(LEAVES)


@pytest.mark.parametrize("path", [*GROUPS, *LEAVES])
def test_help_fits(path: str) -> None:
    text = shown(path)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "Traceback" not in text


@pytest.mark.parametrize("path", LEAVES)
def test_nothing_is_cut(path: str) -> None:
    """All that a command and its options say of themselves stands there, word by word."""
    text, command = words(shown(path)), LEAVES[path]
    assert words(command.help) in text
    for parameter in command.params:
        if getattr(parameter, "help", None):
            assert words(parameter.help) in text, parameter.name


@pytest.mark.parametrize("group", GROUPS)
def test_groups_list_whole_sentences(group: str) -> None:
    text = words(shown(group))
    command = ROOT.commands[group] if group else ROOT
    for name, inner in command.commands.items():
        said = first_sentence(inner.help)
        assert said == words(inner.help)[: len(said)] and f"{name} {said}" in text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("One. Two.", "One."),
        ("As in 0.5 or a.b; more.", "As in 0.5 or a.b; more."),
        ("One\ntwo three. `four` five.", "One two three."),
        ("No end\n\nAnother paragraph.", "No end"),
        ("", ""),
    ],
)
def test_the_first_sentence(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


def noting(called: list[str], name: str) -> Callable[..., None]:
    return lambda *_, **__: called.append(name)


@pytest.mark.parametrize("path", EXAMPLES)
def test_examples_stand_below_and_are_taken(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command itself, all but what it does."""
    text = shown(path)
    called: list[str] = []
    for name, command in LEAVES.items():
        monkeypatch.setattr(command, "callback", noting(called, name))
    for line in EXAMPLES[path]:
        assert f"    {line}\n" in text
    commands = "\n".join(EXAMPLES[path]).replace("\\\n", " ").splitlines()
    for line in commands:
        program, *arguments = takewhile(lambda word: word not in "<>", shlex.split(line))
        assert program == "energylens"
        ROOT.main(arguments, standalone_mode=False, prog_name="energylens")
    assert called == [path] * len(commands)


def test_a_shell_takes_the_examples(tmp_path: Path) -> None:
    script = tmp_path / "examples.sh"
    script.write_text("\n".join("\n".join(lines) for lines in EXAMPLES.values()))
    subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ingst", "ingest"),
        ("train sea", "sae"),
        ("explain write x.lens --modl y", "--model"),
        ("ingest x.lens --prest y", "--preset"),
        ("query x.lens best_featuers", "best_features"),
        ("queries --name best_featuers", "best_features"),
        ("ingest x.lens --preset pythia-70", "pythia-70m"),
    ],
)
def test_a_slip_is_told_what_was_meant(typed: str, meant: str) -> None:
    done = CliRunner().invoke(app, typed.split())
    assert done.exit_code == 2 and meant in done.stderr, done.output
