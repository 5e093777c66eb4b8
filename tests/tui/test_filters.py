"""`/` on every list: letter by letter, with its count, until it is cleared."""

import shutil
from pathlib import Path

import polars as pl
import pytest
from textual.widgets import Input

from energylens.db.explanations import Explanation, write_explanations
from energylens.db.layout import StoreLayout
from energylens.queries.catalog import open_catalog
from energylens.queries.coactivation import coactivation_partners, coactive_pairs
from energylens.queries.efas import efas_ranking
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.widgets.filter_bar import FilterBar
from energylens.tui.widgets.virtual_table import VirtualTable
from tests.tui.conftest import Open

BOTH = pytest.mark.parametrize("size", ["small", "large"])


@pytest.fixture
def path(rich_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(rich_path, tmp_path / "rich.lens"))


@pytest.fixture
def ranking(rich, rich_run: str) -> pl.DataFrame:
    return efas_ranking(rich, rich_run, "mlp", k=10_000)


def table(d, name: str) -> VirtualTable:
    return d.app.screen.query_one(f"#{name}", VirtualTable)


@BOTH
async def test_a_ranking_is_filtered_sorted_and_opened(
    drive: Open, rich_path: Path, ranking: pl.DataFrame, size: str
) -> None:
    left = ranking.filter(pl.col("t") > 0)
    assert 1 < len(left) < len(ranking)
    async with drive(size, rich_path) as d:
        await d.press("4", "slash")
        await d.type("t > 0")
        (counted,) = [line for line in d.lines if line.startswith(" /")]
        assert f"{len(left):,} of {len(ranking):,}" in counted
        await d.press("enter")
        assert table(d, "ranking").has_focus and "t > 0" in d.text, "the filter stays in view"
        await d.on_column("ranking", "within")
        await d.press("s")
        highest = left.sort("within", descending=True)["feature_id"].to_list()
        assert table(d, "ranking").n_rows == len(left)
        await d.press("enter")
        screen = d.app.screen
        assert isinstance(screen, FeatureScreen)
        place = screen.feature_in_view()
        assert place is not None and place.feature_id == highest[0]
        await d.press("right_square_bracket")
        place = screen.feature_in_view()
        assert place is not None and place.feature_id == highest[1], "along the filtered list"
        await d.press("escape", "2", "4")
        assert "t > 0" in d.text, "a view keeps its filter"
        await d.press("escape")
        assert table(d, "ranking").n_rows == len(ranking)
        assert not any(line.startswith(" /") for line in d.lines)
        whole = ranking.sort("within", descending=True)["feature_id"][0]
        assert table(d, "ranking").source.row(0)[0] == whole, "and its order"  # type: ignore[union-attr]


async def test_a_filter_that_cannot_be_read_keeps_the_rows(drive: Open, rich_path: Path) -> None:
    async with drive("large", rich_path) as d:
        await d.press("4")
        n = table(d, "ranking").n_rows
        await d.press("slash")
        d.app.screen.query_one(FilterBar).query_one(Input).value = "nothing > 3"
        await d.settle()
        assert "no column 'nothing'" in d.text and table(d, "ranking").n_rows == n
        await d.press(*["backspace"] * 11)
        await d.type("category:nowhere")
        assert table(d, "ranking").n_rows == 0
        await d.press("enter", "enter", "asterisk", "n", "equals_sign", "x", "y", "space", "F")
        assert not isinstance(d.app.screen, FeatureScreen), "there is nothing to open"
        await d.press("escape")
        assert table(d, "ranking").n_rows == n


async def test_headings_are_names_too(drive: Open, rich_path: Path, ranking: pl.DataFrame) -> None:
    async with drive("large", rich_path) as d:
        await d.press("4", "slash")
        await d.type("active > 3")
        assert table(d, "ranking").n_rows == len(ranking.filter(pl.col("n_active") > 3))


async def test_a_followed_list_comes_back_as_it_was_left(
    drive: Open, rich_path: Path, rich, rich_run: str
) -> None:
    pairs = coactive_pairs(rich, rich_run, "one", k=10_000)
    left = pairs.filter(pl.col("n_both") > 2).sort("jaccard", descending=True)
    assert 1 < len(left) < len(pairs)
    second = int(left["feature_id"][1])
    async with drive("large", rich_path) as d:
        names = [choice.sae.sae_id for choice in d.app.workspace.choices]
        d.app.workspace.select(d.app.workspace.choices[names.index("one")])
        await d.press("5", "f", "slash")
        await d.type("n_both > 2")
        await d.press("enter")
        await d.on_column("together", "jaccard")
        await d.press("s", "down", "enter")
        partners = coactivation_partners(rich, rich_run, "one", second, k=50)
        assert table(d, "together").n_rows == len(partners) and f"feature {second}" in d.lines[-2]
        assert "n_both" not in d.text
        await d.press("escape")
        assert (table(d, "together").n_rows, table(d, "together").cursor_row) == (len(left), 1)
        assert "n_both > 2" in d.text and f"{len(left)} of {len(pairs)}" in d.text
        await d.press("escape")
        assert table(d, "together").n_rows == len(pairs)


@BOTH
@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (("3", "enter"), "ranked"),
        (("6",), "routes"),
        (("7",), "texts"),
        (("2", "enter", "t"), "means"),
        (("8",), "rows"),
    ],
)
async def test_every_list_has_a_filter(
    drive: Open, rich_path: Path, size: str, keys: tuple[str, ...], name: str
) -> None:
    async with drive(size, rich_path) as d:
        await d.press(*keys)
        if name == "rows":
            d.app.screen.query_one("#editor").text = "SELECT * FROM range(7) AS t(id)"  # type: ignore[attr-defined]
            await d.press("f5", "escape")
        n = table(d, name).n_rows
        assert n
        await d.press("slash", "-", "z", "q", "x")
        assert d.app.screen.query_one(FilterBar).display
        assert table(d, name).n_rows == n and f"{n:,} of {n:,}" in d.text
        await d.press("escape")
        assert not d.app.screen.query_one(FilterBar).display and table(d, name).has_focus


@BOTH
async def test_explanations_are_shown_and_found(
    drive: Open, path: Path, rich, rich_run: str, size: str
) -> None:
    wanted = int(efas_ranking(rich, rich_run, "mlp", k=2)["feature_id"][1])
    text = "[b]( brackets"
    new = Explanation(rich_run, "mlp", wanted, text, "auto", "a-model", 0.75)
    write_explanations(StoreLayout(path).runs()[0], "mlp", [new])
    with open_catalog(path) as store:
        (n_labels,) = (
            store.cursor()
            .execute("SELECT count(*) FROM explanations WHERE sae_id = 'mlp' AND is_label")
            .fetchall()[0]
        )
    async with drive(size, path) as d:
        await d.press("2", "slash")
        await d.type("label:BRACKETS")
        await d.press("enter")
        assert "1 of " in d.lines[-2]
        await d.press("enter")
        assert f"said to be  {text}" in d.text and "a-model" in d.text and "score 0.75" in d.text
        await d.press("4", "slash")
        await d.type("brackets")
        await d.press("enter")
        assert table(d, "ranking").value() == wanted and table(d, "ranking").n_rows == 1
        await d.press("3", "colon")
        await d.type("labels")
        await d.press("enter")
        assert f"{n_labels} of 40 " in d.lines[-2]
