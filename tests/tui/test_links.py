"""From a feature's page to the features of other SAEs it goes with, and back."""

from pathlib import Path

import pytest

from energylens.db.store import Store
from energylens.queries.display import number
from energylens.queries.maps import linked_features
from energylens.tui.address import Told
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.widgets.links import Links
from tests.tui.conftest import Driver, Open


def page_of(d: Driver) -> tuple[str, int]:
    screen = d.app.screen
    assert isinstance(screen, FeatureScreen)
    return screen._selection.sae.sae_id, screen._feature_id


@pytest.mark.parametrize("size", ["small", "large"])
async def test_links_are_listed_gone_along_and_come_back_from(
    drive: Open, rich: Store, rich_run: str, rich_path: Path, size: str
) -> None:
    rows = linked_features(rich, rich_run, "one", 7).to_dicts()
    async with drive(size, rich_path, told=Told(feature="one:7")) as d:
        await d.press("L")
        assert isinstance(d.app.focused, Links)
        for said in ("active together", "read what it writes"):
            assert f"{said}: layer 1  two" in d.text
        for row in rows:
            said = f"  r {number(row['correlation'], 2)}" if row["way"] == "active" else ""
            said = f"{row['other_feature_id']}{said}  cos {number(row['cosine'], 2)}"
            assert said in d.text
        await d.press("down", "j", "up", "enter")
        assert page_of(d) == ("two", rows[1]["other_feature_id"])
        assert f"Feature {rows[1]['other_feature_id']}" in d.text or size == "small"
        back = linked_features(rich, rich_run, "two", rows[1]["other_feature_id"]).to_dicts()
        await d.press("L", "enter")
        assert page_of(d) == ("one", back[0]["other_feature_id"])
        await d.press("escape", "escape")
        assert page_of(d) == ("one", 7)
        assert isinstance(d.app.focused, Links) and d.app.focused.at == 1
        await d.press("L")
        assert not isinstance(d.app.focused, Links)


async def test_where_there_are_none_it_is_said_why(drive: Open) -> None:
    async with drive("small", told=Told(feature="mlp:3")) as d:
        await d.press("L")
        await d.until("before and after them in the same")
        await d.press("enter")
        assert page_of(d) == ("mlp", 3)
