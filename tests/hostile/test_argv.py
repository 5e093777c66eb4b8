"""Arguments that nobody would give: each command ends with an answer or a sentence."""

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import typer
from typer.testing import CliRunner

from energylens.cli import app
from tests.hostile.conftest import N_CASES

ROOT: Any = typer.main.get_command(app)
NEVER = {
    "demo": "ingests what is bundled",
    "worker": "takes its file descriptors for itself",
    "tui": "needs a terminal",
}
"""Commands that cannot be run in this process."""
ODD = (
    "", " ", "0", "-1", "1", "2", "1e999", "nan", "1" * 400, "x", "../../x", "/", "/dev/null", ".",
    "~", "*", "[bold]x[/]", "\x1b]0;x\x07", "\u202e", "\udcff", "%s", "{}", "'", '"', "$x", "x=1",
    "=", "a,b", ",", "all", "none", "lens", "cpu", "cuda:99", "builtin:x", "hf:", "hf:x:y", "1/1",
    "0/0", "9/3", "--", "-", "@", "@/dev/null", "NULL", "run=", "x" * 5000, "float32", "json",
)  # fmt: skip


def _commands(group: click.Group, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*before, name))  # pyright: ignore[reportArgumentType]
        elif name not in NEVER:
            yield (*before, name)


COMMANDS = list(_commands(ROOT))


def _arguments(words: tuple[str, ...], by: random.Random, known: tuple[str, ...]) -> list[str]:
    """Some options and some arguments of a command, with any values."""
    command: Any = ROOT
    for word in words:
        command = command.commands[word]
    values = (*ODD, *known)
    found = []
    for parameter in command.params:
        if isinstance(parameter, click.Option) or hasattr(parameter, "is_flag"):
            if parameter.name == "help" or by.random() < (0.1 if parameter.required else 0.7):
                continue
            found.append(by.choice(parameter.opts))
            if not parameter.is_flag:
                found.append(by.choice(values))
        elif parameter.name == "store" and by.random() < 0.8:
            found.append(known[0])
        elif by.random() < 0.8:
            found.append(by.choice(values))
    if by.random() < 0.1:
        found.insert(by.randint(0, len(found)), by.choice(values))
    return found


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_any_arguments_get_an_answer_or_a_sentence(
    rich_path: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # a path among the arguments leads here
    (tmp_path / "texts.jsonl").write_text('{"text": "The cat sat."}\n')
    (tmp_path / "said.csv").write_text("feature_id,description\n1,x\n")
    store = shutil.copytree(rich_path, tmp_path / "rich.lens")  # some of them write
    known = (str(store), str(tmp_path / "texts.jsonl"), str(tmp_path / "said.csv"), "one")
    by, runner = random.Random(" ".join(words)), CliRunner()
    for _ in range(max(3, N_CASES // 20)):
        arguments = [*words, *_arguments(words, by, known)]
        done = runner.invoke(app, arguments)
        assert done.exit_code in (0, 1, 2, 3), (arguments, done.output, done.exception)
        assert "energylens: unexpected" not in done.output, (arguments, done.output)
        assert "Traceback" not in done.output, arguments
