"""The map of the dictionary: places against loops over all features, and what a person sees."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from energylens.db.index_files import extend_index
from energylens.db.layout import StoreLayout
from energylens.db.store import Store
from energylens.queries.features import similar_features
from energylens.queries.maps import mapped_features
from energylens.queries.meanings import meant_by
from energylens.tui.address import Told
from energylens.tui.screens.dictionary import MapScreen
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.features import FeaturesScreen
from energylens.tui.widgets.atlas import Atlas, Window
from energylens.tui.widgets.map_colours import WAYS, coloured
from tests.tui.conftest import Driver, Open

PLACES = hnp.arrays(
    np.float64, st.tuples(st.integers(1, 40), st.just(2)), elements=st.floats(-3, 3)
)


def cell(atlas: Atlas, at: int) -> tuple[int, int]:
    return int(atlas.column[at]), int(atlas.row[at])


@given(PLACES, st.integers(1, 30), st.integers(1, 12), st.integers(0, 4))
@settings(max_examples=60)
def test_keys_go_to_the_nearest_feature_on_that_side(
    places: np.ndarray, width: int, height: int, zoom: int
) -> None:
    atlas, shown = Atlas(*places.T), np.ones(len(places), dtype=np.bool_)
    atlas.spread(width, height, zoom)
    for across, down in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        found = atlas.towards(0, across, down, shown)
        column, row = cell(atlas, 0)
        away = [(c - column, 2 * (r - row)) for c, r in (cell(atlas, n) for n in range(atlas.n))]
        side = [n for n, (x, y) in enumerate(away) if x * across + y * down > 0]
        near = [n for n in side if abs(away[n][0] * down + away[n][1] * across)
                <= away[n][0] * across + away[n][1] * down]  # fmt: skip
        listed = near or side
        assert found == min(listed, key=lambda n: np.hypot(*away[n]), default=None)


@given(PLACES, st.integers(1, 20), st.integers(1, 9), st.integers(0, 5), st.data())
@settings(max_examples=60)
def test_a_window_holds_its_cursor_and_every_feature_in_it(
    places: np.ndarray, width: int, height: int, zoom: int, data: st.DataObject
) -> None:
    atlas, n = Atlas(*places.T), len(places)
    atlas.spread(width, height, zoom)
    shown, marked = (data.draw(hnp.arrays(np.bool_, n)) for _ in range(2))
    window = None
    for at in [0, *data.draw(st.lists(st.integers(0, n - 1), max_size=3))]:
        window = atlas.window(width, height, at, window)
        column, row = cell(atlas, at)
        assert window.left <= column < window.left + width
        assert window.top <= row < window.top + height
        assert 0 <= window.left <= max(0, (width << zoom) - width)
    assert window is not None
    order = np.array(data.draw(st.permutations(range(n))))
    cells = atlas.cells(window, shown, marked, order)
    for line in range(height):
        for place in range(width):
            here = [m for m in order if shown[m]
                    and cell(atlas, m) == (window.left + place, window.top + line)]  # fmt: skip
            assert cells.counts[line, place] == len(here)
            assert cells.first[line, place] == (here[-1] if here else -1)
            assert cells.is_marked[line, place] == any(marked[m] for m in here)
            assert bool(cells.dots[line, place]) == bool(here)


def test_every_place_can_be_reached_by_arrows() -> None:
    places = np.random.default_rng(3).standard_normal((300, 2))
    atlas, shown = Atlas(*places.T), np.ones(300, dtype=np.bool_)
    atlas.spread(40, 16, 0)
    seen, left = {cell(atlas, 0)}, [0]
    while left:
        at = left.pop()
        for way in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            found = atlas.towards(at, *way, shown)
            if found is not None and cell(atlas, found) not in seen:
                seen.add(cell(atlas, found))
                left.append(found)
    assert seen == {cell(atlas, n) for n in range(300)}


def test_a_dot_stands_where_the_feature_lies() -> None:
    atlas = Atlas(np.array([0.0, 1.0, 0.3]), np.array([0.0, 1.0, 0.9]))
    atlas.spread(2, 1, 0)
    cells = atlas.cells(Window(0, 0, 2, 1), np.ones(3, bool), np.zeros(3, bool), np.arange(3))
    assert [chr(0x2800 + int(bits)) for bits in cells.dots[0]] == ["⡈", "⠈"]  # low left; high right


def test_colours_say_what_signs_say() -> None:
    rows = pl.DataFrame(
        {
            "density": [0.5, 0.01, 0.0001, 0.0],
            "specialist": ["a", "b", None, "a"],
            "within": [0.5, -0.5, 0.01, None],
            "is_labelled": [False, True, False, False],
        }
    )
    signs = {}
    for way in WAYS:
        colours = coloured(way, rows)
        signs[way] = [chr(n) for n in colours.sign_of]
        assert sorted(colours.order) == [0, 1, 2, 3]
        by_sign = {chr(s): colours.styles[n] for s, n in zip(colours.sign_of, colours.style_of,
                                                             strict=True)}  # fmt: skip
        if way in ("category", "labels"):
            assert {s: style for s, style, _ in colours.legend} == by_sign
    assert signs["category"] == ["a", "b", "·", "a"]
    assert signs["frequency"] == ["9", "5", "1", "·"]
    assert signs["EFAS"] == ["+", "-", "·", "·"]
    assert signs["labels"] == ["·", "L", "·", "·"]
    assert list(coloured("labels", rows).order)[-1] == 1, "what has a label covers the others"


def map_of(d: Driver) -> MapScreen:
    assert isinstance(d.app.screen, MapScreen)
    return d.app.screen


@pytest.mark.parametrize("size", ["small", "large", "60x15"])
async def test_the_map_is_gone_through_and_a_feature_opened(
    drive: Open, rich: Store, rich_run: str, rich_path: Path, size: str
) -> None:
    rows = mapped_features(rich, rich_run, "one")
    async with drive(size, rich_path, told=Told(sae="one")) as d:
        await d.press("2", "d")
        screen = map_of(d)
        assert f"Map > {screen._ids[screen.map.at]}" in d.text
        drawn = "".join(d.lines[1 : screen.map.size.height + 1])
        assert any(0x2800 < ord(sign) < 0x2900 for sign in drawn) and "density:" in d.text
        share = 100 * (rows["x_share"][0] + rows["y_share"][0])
        if size == "large":
            assert f"pca, {share:.2g} % of the variance" in d.text and "48 features" in d.text
        before = screen.map.at
        for key in ("right", "j", "left", "k"):
            await d.press(key)
            if screen.map.at != before:
                break
        feature = screen._ids[screen.map.at]
        assert screen.map.at != before and f"Map > {feature}" in d.text
        await d.pilot.pause(0.2)
        await d.settle()
        row = rows.filter(pl.col("feature_id") == feature).row(0, named=True)
        assert f"{row['n_active']:,} tokens" in d.text
        await d.press("enter")
        assert isinstance(d.app.screen, FeatureScreen)
        assert d.app.screen._feature_id == feature
        await d.press("escape")
        assert map_of(d).map.at == screen.map.at
        await d.press("escape")
        assert isinstance(d.app.screen, FeaturesScreen)


async def test_from_a_feature_its_neighbours_are_marked(
    drive: Open, rich: Store, rich_run: str, rich_path: Path
) -> None:
    near = similar_features(rich, rich_run, "one", 7)["neighbour_id"].to_list()
    async with drive("large", rich_path, told=Told(feature="one:7")) as d:
        await d.press("d")
        screen = map_of(d)
        assert "Map > 7" in d.text and f"{len(near)} marked: neighbours of 7" in d.text
        gone = []
        for _ in near:
            await d.press("n")
            gone.append(screen._ids[screen.map.at])
        assert gone == near, "the nearest first"
        await d.press("N")
        assert screen._ids[screen.map.at] == near[-2]
        assert sum(line.count("■") for line in d.lines[1:-4]) >= 5
        assert f"1 of {len(near)}" not in d.text
        await d.press("f")
        assert screen.map.is_only
        await d.press("enter", "right_square_bracket")
        assert isinstance(d.app.screen, FeatureScreen)
        assert d.app.screen._feature_id == near[-1], "the page goes along what is marked"


def slowly(*asked: Any) -> pl.DataFrame:
    time.sleep(0.3)
    return meant_by(*asked)


async def test_words_mark_what_a_filter_leaves(
    drive: Open, rich_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with drive("large", rich_path, told=Told(sae="one")) as d:
        await d.press("2", "slash")
        await d.type("feature_id<3")
        await d.press("enter", "d")
        assert "3 marked: feature_id<3" in d.text, "the filter of the list goes along"
        await d.press("slash", "end")
        await d.type("0")
        assert "of 48" in d.text
        await d.press("enter")
        screen = map_of(d)
        assert len(screen.map.matches) == 30 and screen._ids[screen.map.at] < 30
        await d.press("escape")
        assert not screen.map.matches and "marked" not in d.text
        monkeypatch.setattr("energylens.tui.screens.dictionary.meant_by", slowly)
        screen.map.move_to(screen._places[40])
        await d.press_ahead("slash", *"feature_id<2", "enter")
        assert screen._ids[screen.map.at] < 2, "also where enter comes before the answer"
        await d.press("escape")
        await d.press("slash")
        await d.type("nothing_such>3")
        assert "nothing_such" in d.lines[-3] or "nothing_such" in d.text


async def test_signs_tell_without_colours_what_dots_tell_by_them(
    drive: Open, rich_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with drive("small", rich_path, told=Told(sae="one")) as d:
        await d.press("d")
        assert d.app.no_color and "1 few in a cell" in d.text
        body = d.lines[1 : 1 + map_of(d).map.size.height]
        assert any(sign in "123456789" for line in body for sign in line)
        await d.press("t")
        assert "category:" in d.text
        await d.press("t", "t", "t")
        assert "labels:" in d.text and "L label" in d.text
        await d.press("v")
        assert "■ label" in d.text


async def test_zoom_keeps_the_cursor_and_home_shows_all(drive: Open, rich_path: Path) -> None:
    async with drive("small", rich_path, told=Told(sae="one")) as d:
        await d.press("d", "plus", "plus")
        screen = map_of(d)
        at = screen.map.at
        assert "4x" in d.text
        await d.press("minus")
        assert "2x" in d.text and screen.map.at == at
        await d.press("home")
        assert "2x" not in d.text
        await d.press("g")
        await d.type("5")
        await d.press("enter")
        assert "Map > 5" in d.text


async def test_it_is_found_by_name_and_on_the_command_line(drive: Open, rich_path: Path) -> None:
    async with drive("small", rich_path, told=Told(view="map", feature="two:3")) as d:
        assert "Map > 3" in d.text
        await d.press("escape", "colon")
        await d.type("map")
        await d.press("enter")
        assert map_of(d)._selection.sae.sae_id == "two"
        await d.press("t", "slash")
        await d.type("n_active>3")
        await d.press("enter", "right")
        there = map_of(d).address()
    async with drive("small", rich_path, told=there) as d:
        assert map_of(d).address() == there and "category:" in d.text
        assert "marked: n_active>3" in d.text


async def test_without_a_map_the_command_that_makes_it_is_told(
    drive: Open, rich_path: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "bare.lens"
    shutil.copytree(rich_path, copy)
    run = StoreLayout(copy).runs()[0]
    with extend_index(run, ("feature_map",), "one"):
        pass
    async with drive("small", copy, told=Told(sae="one", view="map")) as d:
        assert "energylens index" in d.text and "weights of one" in d.text
        await d.press("right", "plus", "n", "slash", "escape", "t", "v", "f", "bracketright")
        assert isinstance(d.app.screen, MapScreen)
        await d.press("escape")
        assert not isinstance(d.app.screen, MapScreen)
