"""On a terminal control characters of data are shown; into pipes they go as they are."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from energylens.cli.terminal import Terminal, guard

HOSTILE = "a\x1b]0;title\x07\x1b[2J\x9b31m\u202eb\u2066\x08\x00c"
SQL_TEXT = "'a' || chr(27) || ']0;x' || chr(7) || chr(155) || '2J' || chr(8238) || chr(8) || 'z'"
OBEYED = "\x1b\x07\x08\x9b\x9d\u202e\u2066"


def _read_all(end: int) -> str:
    parts = []
    while True:
        try:
            part = os.read(end, 65536)
        except OSError:  # Linux says so when the last writer has gone
            break
        if not part:
            break
        parts.append(part)
    os.close(end)
    return b"".join(parts).decode()


def on_terminal(*args: object, **env: str) -> str:
    """What a command writes to a terminal, both streams."""
    end, other = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "energylens", *map(str, args)],
        stdin=subprocess.DEVNULL, stdout=other, stderr=other, env=os.environ | env,
    ):  # fmt: skip
        os.close(other)
        return _read_all(end)


def _assert_nothing_obeyed(shown: str) -> None:
    assert not set(OBEYED) & set(shown), repr(shown)


@pytest.mark.parametrize("how", ["table", "csv", "json", "markdown"])
def test_rows_names_and_nested_values_are_shown(store_path: Path, how: str) -> None:
    name = HOSTILE.replace("\x00", "")
    text = f"SELECT {SQL_TEXT} AS t, [{SQL_TEXT}] AS l, {{'k': {SQL_TEXT}}} AS s, 1 AS \"{name}\""
    shown = on_terminal("sql", store_path, text, "--format", how, COLUMNS="300")
    _assert_nothing_obeyed(shown)
    assert "]0;x" in shown and "z" in shown
    if how == "json":  # and still JSON
        assert json.loads(shown)["t"] == "a\x1b]0;x\x07\x9b2J\u202e\x08z"


@pytest.mark.parametrize(
    "args",
    [
        ("sql", "{store}", "SELECT error('{hostile}')"),
        ("sql", "{store}", "SELECT {hostile}"),
        ("sql", "{store}", "SELECT 1", "--format", "{hostile}"),
        ("info", "{hostile}"),
        ("query", "{store}", "{hostile}"),
        ("query", "{store}", "best_features", "sae=mlp", "{hostile}=1"),
        ("{hostile}",),
        ("info", "--{hostile}"),
        ("--debug", "verify", "{hostile}"),
    ],
)
def test_errors_are_shown(store_path: Path, args: tuple[str, ...]) -> None:
    given = {"store": store_path, "hostile": HOSTILE.replace("\x00", "")}
    shown = on_terminal(*(part.format(**given) for part in args), PYTHONIOENCODING="ascii")
    _assert_nothing_obeyed(shown)
    assert "]0;title" in shown


def test_pipes_get_everything_as_it_is(store_path: Path) -> None:
    command = [sys.executable, "-m", "energylens", "sql", store_path, f"SELECT {SQL_TEXT} AS t"]
    done = subprocess.run([*command, "-f", "csv"], capture_output=True, text=True, check=True)
    assert "a\x1b]0;x\x07\x9b2J\u202e\x08z" in done.stdout


def test_only_an_open_line_is_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    end, other = pty.openpty()
    with os.fdopen(other, "w", encoding="utf-8", newline="") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        guard()
        for text in ("\r\x1b[2Kone", "\r\x1b[2Ktwo", "\n", "\r\x1b[2Kthree\r\x1b[2Kfour\n"):
            sys.stderr.write(text)
        sys.stderr.close()
        monkeypatch.undo()
    assert _read_all(end).replace("\r\n", "\n") == "one\r\x1b[2Ktwo\nthree␍␛[2Kfour\n"


def test_a_table_is_drawn_over_itself_and_over_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "4")
    raw = io.BytesIO()
    terminal = Terminal(raw, "utf-8", newline="")

    def sent() -> str:
        terminal.flush()
        found = raw.getvalue().decode()
        raw.seek(0)
        raw.truncate()
        return found

    terminal.draw(["one", "two" * 20, HOSTILE, "too many"])
    first = sent()
    assert first.count("\n") == 3 and "too many" not in first and "two" * 6 + "t\n" in first
    assert first.count("\x1b") == 4, "three lines cleared, and what is below"
    terminal.draw(["three"])
    assert sent() == "\x1b[3A\r\x1b[2Kthree\n\x1b[J"
    terminal.write("said\n")
    sent()
    terminal.draw(["four"])
    assert sent() == "\r\x1b[2Kfour\n\x1b[J", "what was said is out of reach"
