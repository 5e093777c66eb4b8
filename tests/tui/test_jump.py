"""The jump line, the palette, and settings."""

from pathlib import Path

import pytest

from energylens.errors import QueryError, UsageError
from energylens.tui.jump import Jump, parse_jump
from energylens.tui.keymap import bindings_by_id, is_key
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.features import FeaturesScreen
from energylens.tui.screens.specialists import SpecialistsScreen
from energylens.tui.screens.text import TextScreen
from energylens.tui.settings import Settings, read_settings
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.tui.conftest import Open


@pytest.mark.parametrize(
    ("line", "jump"),
    [
        ("features", Jump("view", "features")),
        ("spec", Jump("view", "specialists")),
        ("8", Jump("view", "sql")),
        (" 1234 ", Jump("feature", number=1234)),
        ("feature 7", Jump("feature", number=7)),
        ("features 7", Jump("feature", number=7)),
        ("text 3", Jump("text", number=3)),
        ("SAE Blocks.2", Jump("sae", "blocks.2")),
        ("starred", Jump("filter", "is_starred=yes")),
        ("q", Jump("action", "app.quit")),
    ],
)
def test_lines_lead_somewhere(line: str, jump: Jump) -> None:
    assert parse_jump(line) == jump


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "type where to go"),
        ("nowhere", "no 'nowhere'; there are: overview"),
        ("feature x", "takes a number"),
        ("e", "'e' could be efas or energy"),
        ("sql now", "no 'sql'"),
    ],
)
def test_lines_that_lead_nowhere_say_what_does(line: str, said: str) -> None:
    with pytest.raises(QueryError, match=said):
        parse_jump(line)


async def test_colon_goes_anywhere(drive: Open) -> None:
    async with drive("large") as d:
        await d.press("colon")
        assert "Go to" in d.text
        await d.type("spec")
        await d.press("enter")
        assert isinstance(d.app.screen, SpecialistsScreen)
        await d.press("colon")
        await d.type("sae resid")
        await d.press("enter", "colon", "1", "2", "enter")
        assert isinstance(d.app.screen, FeatureScreen)
        assert "Feature 12  resid" in d.text
        await d.press("colon")
        await d.type("text 1")
        await d.press("enter")
        assert isinstance(d.app.screen, TextScreen) and "text 1" in d.text
        await d.press("colon")
        await d.type("feature 999")
        await d.press("enter")
        await d.until("has the features 0 to 47, no 999")
        await d.press("colon", "escape")
        assert isinstance(d.app.screen, TextScreen)


async def test_starred_features_are_a_jump_away(drive: Open, rich_path: Path) -> None:
    async with drive("small", rich_path) as d:
        await d.press("colon")
        await d.type("sae one")
        await d.press("enter", "colon")
        await d.type("star")
        await d.press("enter")
        assert isinstance(d.app.screen, FeaturesScreen)
        assert "1 of 48 · is_starred=yes" in d.text


async def test_the_palette_knows_every_key_of_the_screen(drive: Open) -> None:
    async with drive("large") as d:
        await d.press("2", "ctrl+p")
        await d.until("view: Specialists")
        await d.type("sort")
        await d.until("here: Sort")
        await d.press("down", "enter")
        table = d.app.screen.query_one("#list", VirtualTable)
        assert table.arrow is not None and table.arrow[0] == "feature_id"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_settings_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "settings.toml",
        'theme = "nord"\nanimation = false\nrater = "ada"\n[keys]\n"app.quit" = "f10"\n',
    )
    found = read_settings(path, ["nord"], ["app.quit"], is_key)
    assert found == Settings("nord", animation=False, rater="ada", keys={"app.quit": "f10"})
    assert read_settings(tmp_path / "none.toml", [], [], is_key) == Settings()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("theme = nord", "cannot be read"),
        ('theem = "nord"', "did you mean 'theme'"),
        ('theme = "norf"', "did you mean 'nord'"),
        ("animation = 3", "animation true or false"),
        ("rater = 3", "rater takes a name"),
        ('rater = " "', "rater takes a name"),
        ('[keys]\n"app.quot" = "x"', "did you mean 'app.quit'"),
        ('[keys]\n"app.quit" = 3', "takes lines like"),
    ],
)
def test_settings_that_make_no_sense_are_named_with_their_file(
    tmp_path: Path, text: str, said: str
) -> None:
    path = write(tmp_path / "settings.toml", text)
    with pytest.raises(UsageError, match=said) as raised:
        read_settings(path, ["nord"], ["app.quit"], is_key)
    assert str(path) in str(raised.value)


def test_every_key_of_ours_can_be_remapped_and_says_what_it_does() -> None:
    known = bindings_by_id()
    assert len(known) > 60
    assert {"features.filter", "feature.star", "table.down", "app.quit"} <= set(known)
    for name, binding in known.items():
        assert binding.tooltip or binding.description, name


async def test_keys_are_remapped_and_a_theme_is_set(drive: Open) -> None:
    settings = Settings("nord", keys={"features.sort": "f8"})
    async with drive(settings=settings) as d:
        assert d.app.theme == "nord"
        await d.press("2", "f8")
        assert "sort feature_id desc" in d.text
        await d.press("s")
        assert "sort feature_id desc" in d.text, "the old key is free"
