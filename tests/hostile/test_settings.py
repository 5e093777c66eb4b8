"""A settings file as anything may have left it: read, or told to be none."""

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.keys import Keys
from textual.theme import BUILTIN_THEMES

from energylens.errors import UsageError
from energylens.tui.keymap import is_key
from energylens.tui.settings import Settings, read_settings
from tests.hostile.conftest import N_CASES, odd_texts

IDS = ["app.quit", "features.filter"]


def read(content: bytes) -> Settings | str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.toml"
        path.write_bytes(content)
        try:
            return read_settings(path, BUILTIN_THEMES, IDS, is_key)
        except UsageError as error:
            assert str(path) in str(error)
            return str(error)


texts = odd_texts.map(lambda text: text.encode("utf-8", "replace").decode())
values = st.one_of(
    texts.map(json.dumps),
    st.sampled_from([
        "true", "1", "-0.0", "nan", "1" * 5000, "0x" + "f" * 5000, "1979-05-27", "25:61:00",
        "9999-99-99T99:99:99Z", "[]", "{}", "[" * 3000 + "]" * 3000, "'''", '"\\ud800"', "{a=1",
    ]),
)  # fmt: skip
names = st.sampled_from(
    ["theme", "animation", "rater", "keys", "keys.app", "[keys]", "[[keys]]", "[theme]"]
)
lines = st.one_of(
    st.builds("{} = {}".format, names | texts.map(json.dumps), values), names, texts,
    st.builds("[keys]\n{} = {}".format, st.sampled_from(IDS).map(json.dumps), values),
)  # fmt: skip


@settings(max_examples=N_CASES)
@given(st.lists(lines, max_size=3).map("\n".join))
def test_any_lines(content: str) -> None:
    read(content.encode("utf-8", "replace"))


@settings(max_examples=N_CASES)
@given(st.binary(max_size=100))
def test_any_bytes(content: bytes) -> None:
    read(content)


@pytest.mark.parametrize(
    "content",
    [
        b"theme = " + b"1" * 5000,
        b"theme = " + b"[" * 100_000,
        b"\xff",
        b"theme = 1979-99-99",
        b'[keys]\n"app.quit" = ""',
        b'[keys]\n"app.quit" = "ctrl+"',
        b'[keys]\n"app.quit" = "no such key"',
        b'[keys]\n"app.quit" = ",,"',
    ],
)
def test_what_is_wrong_is_said(content: bytes) -> None:
    assert isinstance(read(content), str)


@pytest.mark.parametrize(
    "key", ["f10", "ctrl+q", "slash,ctrl+f", "G", "?", "shift+tab", " x ", "ä"]
)
def test_keys_there_are_are_taken(key: str) -> None:
    assert read(f'[keys]\n"app.quit" = "{key}"'.encode()) == Settings(keys={"app.quit": key})


def test_every_key_that_textual_names_is_taken() -> None:
    for key in Keys:
        found = read(f'[keys]\n"app.quit" = {json.dumps(key.value)}'.encode())
        assert isinstance(found, Settings), key


def test_a_pipe_in_its_place_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "settings.toml")
    with pytest.raises(UsageError, match="no plain file"):
        read_settings(tmp_path / "settings.toml", [], [], is_key)
