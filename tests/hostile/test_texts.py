"""Texts that somebody else has made: each is read, or told to be none, and nothing waits or is lost
in silence."""

import csv
import io
import json
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from energylens.errors import TextsError
from energylens.ingest.texts import Text, iter_texts
from tests.hostile.conftest import N_CASES, json_values, odd_texts


def read(path: Path) -> list[Text] | str:
    """The texts, which UTF-8 holds, or what is said; anything else raised is a defect."""
    try:
        found = list(iter_texts(str(path)))
    except TextsError as error:
        assert "unexpected" not in str(error)
        return str(error)
    for text in found:
        for part in (text.text, text.category, text.source):
            assert part is None or part.encode().decode() == part
    return found


def read_bytes(name: str, content: bytes) -> list[Text] | str:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        return read(Path(folder) / name)


@settings(max_examples=N_CASES)
@given(st.lists(st.fixed_dictionaries({"text": odd_texts}, optional={
    "category": json_values, "source": json_values, "": json_values})))  # fmt: skip
def test_json_lines_of_any_values_give_every_text(rows: list[dict]) -> None:
    content = "\n".join(json.dumps(row) for row in rows).encode()
    found = read_bytes("x.jsonl", content)
    assert not isinstance(found, str)
    clean = [row["text"].encode("utf-8", "replace").decode() for row in rows]
    assert [text.text for text in found] == clean


@settings(max_examples=N_CASES)
@given(st.lists(json_values), st.data())
def test_json_lines_that_are_cut_or_changed_anywhere(values: list, data: st.DataObject) -> None:
    content = bytearray("\n".join(json.dumps({"text": v, "source": v}) for v in values).encode())
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            place = data.draw(st.integers(0, len(content) - 1))
            content[place] = data.draw(st.integers(0, 255))
    read_bytes("x.jsonl", bytes(content[: data.draw(st.integers(0, len(content)))]))


@settings(max_examples=N_CASES)
@given(st.binary(max_size=200), st.sampled_from(["x.txt", "x.jsonl", "x.csv", "x.parquet"]))
def test_any_bytes_in_any_file(content: bytes, name: str) -> None:
    read_bytes(name, content)


@settings(max_examples=N_CASES)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20)))
def test_csv_gives_every_text_that_was_written(texts: list[str]) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerows([["text"], *([text] for text in texts)])
    found = read_bytes("x.csv", out.getvalue().encode())
    assert not isinstance(found, str) and [text.text for text in found] == texts


@settings(max_examples=N_CASES)
@given(st.text(st.sampled_from('text,"\r\n\0\ufeff a;'), max_size=60))
def test_csv_of_odd_quoting(content: str) -> None:
    read_bytes("x.csv", f"text,category\n{content}".encode())


_COLUMNS = [
    pa.array(["a", None, "c"]),
    pa.array([b"a", b"\xff", None]),
    pa.array([b"a", b"\xff", b"c"]).view(pa.binary()).cast(pa.large_binary()),
    pa.Array.from_buffers(pa.string(), 3, pa.array([b"a", b"\xff", b"c"]).buffers()),
    pa.array(["a", "b", "a"]).dictionary_encode(),
    pa.array([1, 2**62, None]),
    pa.array([1e308, float("nan"), float("inf")]),
    pa.array([2**62, 0, -(2**62)], pa.timestamp("us")),
    pa.array([0, 1, 2], pa.timestamp("ns", "Nowhere/Land")),
    pa.array([2**30, 0, -(2**30)], pa.date32()),
    pa.array([2**62, 0, None], pa.duration("us")),
    pa.array([["a"], [], None]),
    pa.array([{"text": "a"}, None, {"text": None}]),
    pa.nulls(3),
]


@settings(max_examples=N_CASES)
@given(
    st.lists(st.sampled_from(_COLUMNS), min_size=1, max_size=3), st.permutations(range(3)),
    st.sampled_from([0, 1, 40, 4096]),
)  # fmt: skip
def test_parquet_columns_of_every_type(columns: list, order: list[int], cut: int) -> None:
    names = [("text", "category", "source")[place] for place in order[: len(columns)]]
    out = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, names=names), out)
    content = out.getvalue()
    read_bytes("x.parquet", content)
    read_bytes("x.parquet", content[: len(content) - cut])


def _deep(depth: int) -> bytes:
    return b'{"text": "x", "source": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"text": "x", "id": ' + b"1" * 5000 + b"}", "line 1, holds a number"),
        ("x.jsonl", b'{"text": "x"}\n' + _deep(200_000), "line 2, is nested too deeply"),
        ("x.jsonl", '{"text": "x"}'.encode("utf-16"), "is not UTF-8"),
        ("x.csv", b'text,category\n"open,a\nsecond,b\n', "a quote is opened and never closed"),
        ("x.csv", b'text\n"a"b\n', "is not CSV"),
        ("x.txt", b"\xff\xfea\0", "is not UTF-8"),
    ],
)
def test_what_is_wrong_is_said(name: str, content: bytes, message: str) -> None:
    found = read_bytes(name, content)
    assert isinstance(found, str) and message in found


def test_bad_utf8_in_parquet_is_said() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": _COLUMNS[3]}), out)
    found = read_bytes("x.parquet", out.getvalue())
    assert isinstance(found, str) and "as Parquet" in found
    out = io.BytesIO()
    pq.write_table(pa.table({"text": _COLUMNS[1]}), out)
    found = read_bytes("x.parquet", out.getvalue())
    assert isinstance(found, str) and "'text' of bytes" in found


def test_names_that_are_not_utf8_stay_apart(tmp_path: Path) -> None:
    for name in (b"\xff", b"\xfe"):
        folder = os.fsencode(tmp_path) + b"/" + name
        Path(os.fsdecode(folder)).mkdir()
        Path(os.fsdecode(folder + b"/caf\xe9.txt")).write_text("x")
    found = read(tmp_path)
    assert found == [
        Text("x", "\\xfe", "caf\\xe9.txt"),
        Text("x", "\\xff", "caf\\xe9.txt"),
    ]


def test_pipes_and_links_that_lead_nowhere_are_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    os.mkfifo(tmp_path / "b.txt")
    assert "'" + str(tmp_path / "b.txt") + "' leads nowhere or is no plain file" in read(tmp_path)
    assert "neither a file nor a directory" in read(tmp_path / "b.txt")
    (tmp_path / "b.txt").unlink()
    for target in ("nowhere", "b.txt"):
        (tmp_path / "b.txt").symlink_to(target)
        assert "leads nowhere" in read(tmp_path)
        (tmp_path / "b.txt").unlink()
    (tmp_path / "b.txt").symlink_to("a.txt")
    (tmp_path / "again").symlink_to(tmp_path)
    assert read(tmp_path) == [Text("x", None, "a.txt"), Text("x", None, "b.txt")]


def test_a_directory_that_cannot_be_listed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "shut").mkdir()
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = read(tmp_path)
    assert isinstance(found, str) and "shut': Permission denied" in found
