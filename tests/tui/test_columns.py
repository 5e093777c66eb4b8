"""Columns of one's own: chosen, ordered, hidden, and there again at the next start."""

import tomllib
from pathlib import Path

import pytest

from energylens.errors import UsageError
from energylens.tui.keymap import bindings_by_id, is_key
from energylens.tui.settings import Settings, keep_columns, read_settings, settings_path
from tests.tui.conftest import Open


def read() -> Settings:
    return read_settings(settings_path(), ["nord"], bindings_by_id(), is_key)


@pytest.mark.parametrize("size", ["60x15", "80x24", "160x45"])
async def test_columns_are_chosen_and_remembered(drive: Open, size: str) -> None:
    path = settings_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('# mine\ntheme = "nord"  # dark\n\n[keys]\n"app.quit" = "f10"\n')
    async with drive(size, settings=read()) as d:
        await d.press("2")
        assert d.lines[1].split()[:4] == ["feature", "★", "label", "▼score"]
        await d.press("O")
        assert "13 of 13" in d.text
        await d.press("down", "space", "down", "down", "K", "enter")
        assert d.lines[1].split()[:3] == ["feature", "▼score", "label"]
        await d.press("s")
        assert "sort feature_id desc" in d.text, "the cursor's column is the one that is seen"
    assert "# mine" in path.read_text() and "# dark" in path.read_text()
    found = read()
    assert (found.theme, found.keys) == ("nord", {"app.quit": "f10"})
    assert found.columns["features.list"][:2] == ["feature_id", "score"]
    assert found.columns["features.list"][-1] == "-is_starred"
    async with drive(size, settings=found) as d:
        await d.press("2")
        assert d.lines[1].split()[:3] == ["feature", "▼score", "label"]
        await d.press("O", "space", "escape")
        assert d.lines[1].split()[0] == "feature", "esc keeps what was"
        await d.press("O", "r", "enter")
        assert d.lines[1].split()[:4] == ["feature", "★", "label", "▼score"]


def test_the_rest_of_the_settings_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    odd = {"sql.rows": ['a"b', "c\\d", "\x1b[31m", "é]", "-[x]"]}
    keep_columns(path, odd)
    assert tomllib.loads(path.read_text())["columns"] == odd
    path.write_text('rater = "a"\n[columns]  # old\n"x" = ["y"]\n[keys]\n"app.quit" = "f9"\n')
    keep_columns(path, {"features.list": ["label"]})
    assert tomllib.loads(path.read_text()) == {
        "rater": "a",
        "keys": {"app.quit": "f9"},
        "columns": {"features.list": ["label"]},
    }
    path.write_text('columns = {"x" = ["y"]}\n')
    before = path.read_text()
    with pytest.raises(UsageError, match="cannot be told from the rest"):
        keep_columns(path, {"features.list": ["label"]})
    assert path.read_text() == before
    path.write_text('[columns]\n"features.list" = "label"\n')
    with pytest.raises(UsageError, match="takes lines like"):
        read_settings(path, [], [], is_key)
