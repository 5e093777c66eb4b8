"""Files that a user names: whole or not at all, and nothing else is put in their place."""

import os
import threading
from pathlib import Path

import polars as pl
import pytest

from energylens.errors import StoreError
from energylens.queries.writing import Format, whole_file, write_file

ROWS = pl.DataFrame({"x": [1, 2]})
CSV = "x\n1\n2\n"


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(RuntimeError), whole_file(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    write_file(ROWS, path, Format.csv)
    assert path.read_text() == CSV and list(tmp_path.iterdir()) == [path]


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_file(ROWS, pipe, Format.csv)
    reader.join(30)
    assert read == [CSV] and pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


def test_a_device_stays_a_device(tmp_path: Path) -> None:
    main, side = os.openpty()
    try:
        device = Path(os.ttyname(side))
        (tmp_path / "link").symlink_to(device)
        with whole_file(tmp_path / "link") as place:
            assert place == device
        assert device.is_char_device() and (tmp_path / "link").is_symlink()
    finally:
        os.close(main)
        os.close(side)


def test_a_link_leads_to_the_new_file(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_file(ROWS, tmp_path / "link", Format.csv)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == CSV


@pytest.mark.parametrize("name", [".", "..", "/", ""])
def test_a_folder_is_no_file(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="is a folder; name a file in it"):
        write_file(ROWS, Path(name), Format.csv)
