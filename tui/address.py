"""Where something is seen, as the words of a command line that opens it again."""

import math
import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from energylens.errors import UsageError

Page = Literal[
    "feature", "texts", "lab", "steering", "origins", "text", "landscape", "heads", "head",
    "attention", "prompt", "attribution", "comparison", "map", "graphs", "graph",
]  # fmt: skip
PAGES: tuple[Page, ...] = get_args(Page)
COMMAND = ("energylens", "tui")


@dataclass(frozen=True)
class Told:
    """Words of the command line; None where nothing was told."""

    run: str | None = None
    sae: str | None = None
    view: str | None = None
    page: str | None = None
    """What is open over the view; None is what the other words ask for."""
    feature: str | None = None
    """A number, or an SAE and a number, as in `mlp:206`."""
    text: int | None = None
    token: int | None = None
    """The token under the cursor: its index in the run, or its place in the prompt."""
    head: str | None = None
    """A layer and a head, as in `1.3`."""
    graph: str | None = None
    """An attribution graph."""
    node: str | None = None
    """Of its nodes the one under the cursor."""
    prompt: str | None = None
    other_run: str | None = None
    other_sae: str | None = None
    other_feature: str | None = None
    """What is held beside."""
    other_token: int | None = None
    """The token that is looked at."""
    category: str | None = None
    show: str | None = None
    """Which of what a screen can show, in words of its own."""
    unmask: str | None = None
    """Masks that are lifted: special, first, sinks."""
    filter: str | None = None
    sort: str | None = None
    """A column; downwards with a - before it."""
    row: int | None = None
    """The row under the cursor, from 1."""
    pane: str | None = None
    """The list or map in focus, where a screen has several."""
    statement: str | None = None
    """SQL to begin with."""

    @property
    def of_list(self) -> "Told":
        """What is told of a view's list and its cursor, and nothing else."""
        names = ("category", "show", "filter", "sort", "row", "pane")
        return replace(Told(), **{name: getattr(self, name) for name in names})

    def over(self, other: "Told") -> "Told":
        """This, and what only the other one tells."""
        own = dict(self.given)
        return replace(other, **own)

    @property
    def given(self) -> list[tuple[str, Any]]:
        """Names and values of what is told."""
        pairs = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, value) for name, value in pairs if value is not None]


def arguments(told: Told) -> list[str]:
    """The words as options of the command."""
    parts: list[str] = []
    for name, value in told.given:
        option = _option(name)
        # a value that looks like an option has to be one with its name
        parts += [f"{option}={value}"] if str(value).startswith("-") else [option, str(value)]
    return parts


def line_of(store: Path, told: Told) -> str:
    """The command line, quoted for a shell."""
    return shlex.join([*COMMAND, str(store), *arguments(told)])


def lines_of(line: str, width: int) -> list[str]:
    """A command line broken before its options, as a shell takes it."""
    words, lines = map(shlex.quote, shlex.split(line)), [""]
    pieces: list[str] = []
    for word in words:
        if pieces and not word.startswith("--"):
            pieces[-1] += f" {word}"
        else:
            pieces.append(word)
    for piece in pieces:
        if lines[-1] and len(lines[-1]) + len(piece) + 3 > width:
            lines.append(piece)
        else:
            lines[-1] += f" {piece}" if lines[-1] else piece
    return [*(f"{one} \\" for one in lines[:-1]), *lines[-1:]]


def number_in(text: str, otherwise: float) -> float:
    """The number that a text is; another one where it is none, or not a finite one."""
    try:
        found = float(text)
    except ValueError:
        return otherwise
    return found if math.isfinite(found) else otherwise


def statement_in(file: Path) -> str:
    """The SQL of a file.

    Raises:
        UsageError: there is no such file, or it holds no text.
    """
    if not file.is_file():
        raise UsageError(f"--sql takes a file with a statement; there is no file '{file}'")
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read '{file}' as text: {error}") from error


def is_address(line: str) -> bool:
    """Whether a line is meant as the words of a command."""
    return line.lstrip().startswith(("--", f"{COMMAND[0]} "))


def read_line(line: str) -> tuple[str | None, Told]:
    """The store and the words of a command line, or of its options alone.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"the line cannot be read as a shell would: {error}") from error
    if words[:1] == [COMMAND[0]]:
        if words[:2] != list(COMMAND):
            raise UsageError(f"'{' '.join(words[:2])}' opens no screen; energylens tui does")
        words = words[2:]
    stores, values = [], {}
    while words:
        word = words.pop(0)
        option, is_joined, value = word.partition("=")
        if not word.startswith("--"):
            stores.append(word)
            continue
        name = _named(option)
        if not is_joined:
            if not words:
                raise UsageError(f"{option} takes a value")
            value = words.pop(0)
        if option == _FILE:
            value = statement_in(Path(value).expanduser())
        values[name] = _number(option, value) if name in _NUMBERS else value
    if len(stores) > 1:
        raise UsageError(f"'{stores[1]}' is no option; there is: {', '.join(_OPTIONS)}")
    return (stores[0] if stores else None), Told(**values)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


_FILE = "--sql"
_OPTIONS = {_option(field.name): field.name for field in fields(Told)} | {_FILE: "statement"}
_NUMBERS = frozenset(field.name for field in fields(Told) if "int" in str(field.type))


def _named(option: str) -> str:
    if option not in _OPTIONS:
        raise UsageError(f"there is no {option}; there is: {', '.join(_OPTIONS)}")
    return _OPTIONS[option]


def _number(option: str, value: str) -> int:
    if not value.isdecimal():
        raise UsageError(f"{option} takes a number, not '{value}'")
    return int(value)
