"""Rating a feature by the rubric: what is typed, what is refused, what is kept, what is shown."""

import getpass
import re
import shutil
from pathlib import Path

import pytest

from energylens.db.layout import StoreLayout
from energylens.db.ratings import SCALES, Rating, read_ratings
from energylens.errors import StoreError
from energylens.tui.kinds import rating
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.settings import Settings
from tests.tui.conftest import Driver, Open

BOTH = pytest.mark.parametrize("size", ["small", "large", "60x15"])
ADA = Settings(rater="ada")


@pytest.fixture
def path(rich_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rich_path, tmp_path / "rich.lens"))


def kept(path: Path, feature: int) -> dict[str, tuple[int, ...]]:
    """The numbers of each rater of a feature, as they are on the disk."""
    found = [r for r in read_ratings(StoreLayout(path).runs()[0]) if r.feature_id == feature]
    return {r.rater: (r.confidence, r.consistency, r.completeness, r.specificity) for r in found}


async def go_to_feature(d: Driver, feature: int) -> None:
    """The page of a feature of the SAE `one`."""
    await d.press("colon", *"sae one", "enter", "colon", *f"feature {feature}", "enter")
    assert isinstance(d.app.screen, FeatureScreen) and f"Feature {feature} " in d.text


def flat(d: Driver) -> str:
    """What stands in the dialog, or else beside the contexts, as one line."""
    found = d.app.screen.query(".dialog") or d.app.screen.query("#about")
    place = found.first().region
    lines = (line[place.x : place.right] for line in d.lines[place.y : place.bottom])
    return re.sub(r"[\s│▁▂▃▄▅▆▇█]+", " ", " ".join(lines))


@BOTH
async def test_six_keys_rate_a_feature(drive: Open, path: Path, size: str) -> None:
    async with drive(size, path, ADA) as d:
        await go_to_feature(d, 7)
        await d.press("b")
        for scale, most in SCALES.items():
            assert f" {scale} " in flat(d) and f"0 to {most}: how" in flat(d)
        assert "rated by ada" in flat(d) and "enter keeps" in flat(d)
        for typed in "3532":
            await d.press(typed)
        assert [line for line in d.lines if re.search(r"consistency +5 ", line)]
        assert "sum 13 of 14" in flat(d), "what is typed is shown at once"
        await d.press("enter")
        await d.hears("feature 7: rated 3 5 3 2 by ada")
        assert kept(path, 7) == {"ada": (3, 5, 3, 2)}
        assert "ada 3 5 3 2 sum 13 of 14" in flat(d)


@BOTH
async def test_a_digit_off_its_scale_is_refused_where_it_is_typed(
    drive: Open, path: Path, size: str
) -> None:
    async with drive(size, path, ADA) as d:
        await go_to_feature(d, 7)
        await d.press("b", "4")
        assert "confidence is rated from 0 to 3, not 4" in flat(d)
        await d.press("3", "9")
        assert "consistency is rated from 0 to 5, not 9" in flat(d)
        await d.press("enter")
        assert "consistency is missing: type a digit from 0 to 5" in flat(d)
        await d.press("5", "x", "1", "1", "1")
        assert "all four are there" in flat(d)
        await d.press("backspace", "0", "escape")
        assert kept(path, 7) == {} and isinstance(d.app.screen, FeatureScreen)


async def test_digits_lead_to_no_other_view_and_may_be_typed_ahead(drive: Open, path: Path) -> None:
    async with drive("small", path, ADA) as d:
        await go_to_feature(d, 7)
        await d.press_ahead("b", "2", "backspace", "1", "4", "0", "0", "enter")
        await d.hears("rated 1 4 0 0")
        assert isinstance(d.app.screen, FeatureScreen) and kept(path, 7) == {"ada": (1, 4, 0, 0)}


@BOTH
async def test_ones_own_rating_is_shown_and_replaced(drive: Open, path: Path, size: str) -> None:
    async with drive(size, path, ADA) as d:
        await go_to_feature(d, 3)
        shown = flat(d)
        assert "ada 3 5 2 1 sum 11 of 14" in shown and "bob 2 4 2 3 sum 11 of 14" in shown
        assert "ada and bob: sums differ by 0 over 1 feature" in shown
        assert "told 0.700" in shown, "the score that a file told"
        await d.press("b")
        assert "said to be even numbers" in flat(d)
        assert "Feature 3 of one, rated by ada, now 3 5 2 1" in flat(d)
        await d.press(*"0000", "enter")
        await d.hears("rated 0 0 0 0")
        assert kept(path, 3) == {"ada": (0, 0, 0, 0), "bob": (2, 4, 2, 3)}
        assert "ada 0 0 0 0 sum 0 of 14" in flat(
            d
        ) and "sums differ by 11.0 over 1 feature" in flat(d)


async def test_the_rater_is_who_is_logged_in(
    drive: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "[b]eve")
    async with drive("large", path) as d:
        await go_to_feature(d, 7)
        await d.press("b", *"1111", "enter")
        await d.hears("by [b]eve")
        assert kept(path, 7) == {"[b]eve": (1, 1, 1, 1)} and "[b]eve 1 1 1 1 sum 4" in flat(d)


async def test_nobody_rates_without_a_name(
    drive: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 4242")

    monkeypatch.setattr(getpass, "getuser", nobody)
    async with drive("small", path) as d:
        await go_to_feature(d, 7)
        await d.press("b")
        await d.hears('set rater = "your name" in')
        assert isinstance(d.app.screen, FeatureScreen)


async def test_a_store_that_cannot_be_written_is_told(
    drive: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: object, one: Rating) -> None:
        raise StoreError(f"cannot write the ratings of {one.feature_id}: Read-only file system")

    monkeypatch.setattr(rating, "keep_rating", refused)
    async with drive("small", path, ADA) as d:
        await go_to_feature(d, 7)
        await d.press("b", *"1111", "enter")
        await d.hears("Read-only file system")
        assert kept(path, 7) == {} and "rated" not in d.text


async def test_the_palette_and_the_keys_tell_of_it(drive: Open, path: Path) -> None:
    async with drive("large", path, ADA) as d:
        await go_to_feature(d, 7)
        assert " b Rate" in d.lines[-1]
        await d.press("ctrl+p")
        await d.type("here: rate")
        await d.until("here: Rate")
        await d.press("enter")
        assert "rated by ada" in flat(d)
