"""Folders and files that several processes make at once: one of them whole, never a mixture."""

import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from energylens.db.folders import new_folder
from energylens.db.whole import writing
from energylens.errors import StoreBusyError, StoreError, UsageError
from energylens.queries.writing import whole_file

_MANY = 40


def _make(folder: Path, name: str, start: Barrier) -> None:
    start.wait()
    try:
        with new_folder(folder) as tree:
            for number in range(_MANY):
                (tree / f"{number}.txt").write_text(name)
    except (StoreBusyError, UsageError):
        return


def _write(path: Path, name: str, start: Barrier) -> None:
    start.wait()
    with whole_file(path) as partial, partial.open("w") as file:
        for _ in range(_MANY):
            file.write(name * 100)
            file.flush()


@pytest.mark.parametrize("round_", range(5))
def test_a_folder_is_of_one_writer(tmp_path: Path, round_: int) -> None:
    folder = tmp_path / "out"
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    writers = [context.Process(target=_make, args=(folder, f"w{n}", start)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(list(folder.iterdir())) == _MANY
    assert len({file.read_text() for file in folder.iterdir()}) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("round_", range(5))
def test_a_file_is_of_one_writer(tmp_path: Path, round_: int) -> None:
    path = tmp_path / "out.txt"
    context = multiprocessing.get_context("fork")
    start = context.Barrier(4)
    writers = [context.Process(target=_write, args=(path, f"{n}", start)) for n in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    text = path.read_text()
    assert len(text) == 100 * _MANY and len(set(text)) == 1
    assert [left.name for left in tmp_path.iterdir()] == ["out.txt"]


def test_a_folder_that_is_there_or_fails_stays_as_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "out"
    with pytest.raises(RuntimeError), new_folder(folder) as tree:
        (tree / "a").touch()
        raise RuntimeError
    assert not folder.exists() and not list(folder.parent.iterdir())
    with new_folder(folder) as tree:
        (tree / "a").touch()
    with pytest.raises(UsageError, match="is there already"), new_folder(folder):
        pass
    assert [path.name for path in folder.iterdir()] == ["a"]
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write"), new_folder(tmp_path / "file" / "out"):
        pass


def test_a_name_that_is_too_long_is_told_as_that(tmp_path: Path) -> None:
    with (
        pytest.raises(StoreError, match="name a place with a shorter path"),
        writing("'it'"),
    ):
        (tmp_path / ("x" * 300)).mkdir()
