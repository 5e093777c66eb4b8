"""A wide table in a terminal: fitted, chosen from, or paged; elsewhere it goes as it is."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
from rich.cells import cell_len

from energylens.cli.fitting import fitted
from energylens.queries.writing import Format, as_text

QUERY = "query", "best_features", "sae=resid", "k=3"
WIDE = pl.DataFrame(
    {
        "feature_id": [1234, 7],
        "label": ["開く括弧と閉じる括弧 and more of the same", "x" * 80],
        "score": [0.123456, -98765.4321],
        "text": ["words " * 9, None],
        "a_column_with_a_long_name": [1, 2],
        "flag": [True, False],
    }
)


def cells(text: str) -> list[int]:
    return [cell_len(line) for line in text.splitlines()]


@pytest.mark.parametrize("width", [20, 21, 39, 40, 60, 79, 80, 100, 120, 160, 200])
def test_no_line_is_wider_and_columns_are_whole(width: int) -> None:
    text, left_out = fitted(WIDE, width)
    assert max(cells(text)) <= width
    names = [name.strip() for name in text.splitlines()[1].strip("│").split("┆")]
    assert left_out == WIDE.columns[len(names) :]
    assert names == WIDE.columns[: len(names)]
    for number in ("1234", "7"):
        assert f" {number} " in text
    assert ("-98765.4321" in text) == ("score" in names)
    assert "0.12345" not in text or "0.123456" in text


def test_where_there_is_room_nothing_is_cut() -> None:
    assert fitted(WIDE, 10_000) == (as_text(WIDE, Format.table), [])
    narrow = WIDE.select("feature_id", "flag")
    assert fitted(narrow, 80) == (as_text(narrow, Format.table), [])


def test_texts_are_cut_before_columns_are_left_out() -> None:
    whole = max(cells(as_text(WIDE, Format.table)))
    text, left_out = fitted(WIDE, whole - 1)
    assert not left_out and "…" in text


def test_the_first_column_stays_and_no_rows_are_well() -> None:
    text, left_out = fitted(WIDE, 5)
    assert "1234" in text and left_out == WIDE.columns[1:]
    assert fitted(WIDE.clear(), 40)[1]
    assert fitted(pl.DataFrame(), 40)[1] == []


def asked(store: Path, *options: str, **env: str) -> tuple[list[str], str]:
    """The lines a command writes to a terminal of 60 columns, and what it says beside."""
    end, other = pty.openpty()
    name, *arguments = QUERY
    with subprocess.Popen(
        [sys.executable, "-m", "energylens", name, str(store), *arguments, *options],
        stdin=subprocess.DEVNULL, stdout=other, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "COLUMNS": "60", **env},
    ) as process:  # fmt: skip
        os.close(other)
        parts = []
        while True:
            try:
                part = os.read(end, 65536)
            except OSError:  # the last writer has gone
                break
            if not part:
                break
            parts.append(part)
        os.close(end)
        assert process.stderr is not None
        return b"".join(parts).decode().splitlines(), process.stderr.read()


def test_a_terminal_gets_what_fits_and_is_told_of_the_rest(store_path: Path) -> None:
    lines, said = asked(store_path)
    assert lines and max(map(cell_len, lines)) <= 60
    assert said.startswith("no room for ") and "--columns A,B chooses, --pager shows them" in said
    named = said.removeprefix("no room for ").partition(";")[0].split(", ")
    assert named and not [name for name in named if name in lines[1]]


def test_columns_are_chosen_in_their_order(store_path: Path) -> None:
    lines, said = asked(store_path, "--columns", "density, feature_id")
    assert not said
    assert [name.strip() for name in lines[1].strip("│").split("┆")] == ["density", "feature_id"]


def test_a_wrong_column_tells_the_nearest(store_path: Path) -> None:
    lines, said = asked(store_path, "--columns", "feature")
    assert not lines and "there is no column 'feature'; nearest: feature_id" in said


def test_the_pager_gets_everything(store_path: Path) -> None:
    lines, said = asked(store_path, "--pager", PAGER="cat")
    assert not said and max(map(cell_len, lines)) > 60


def test_a_pager_that_is_left_or_is_none(store_path: Path) -> None:
    assert asked(store_path, "--pager", PAGER="true") == ([], "")
    lines, said = asked(store_path, "--pager", PAGER="no-such-pager --x")
    assert not lines and "there is no pager 'no-such-pager'" in said


def test_a_pipe_gets_it_whole(store_path: Path) -> None:
    name, *arguments = QUERY
    done = subprocess.run(
        [sys.executable, "-m", "energylens", name, str(store_path), *arguments, "--pager"],
        capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "60"},
    )  # fmt: skip
    assert max(map(cell_len, done.stdout.splitlines())) > 60 and not done.stderr
