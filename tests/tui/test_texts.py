"""Texts token by token, what a column holds, and what is written to files."""

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from energylens.db.layout import StoreLayout
from energylens.db.store import Store
from energylens.errors import EnergyLensError
from energylens.queries.contexts import context_tokens, text_contexts, token_features
from energylens.queries.energies import text_behaviour
from energylens.queries.ranked import FEATURE_COLUMNS
from energylens.tui.modals.frequency import frequencies
from energylens.tui.notices import notify
from energylens.tui.screens.feature import FeatureScreen
from energylens.tui.screens.text import TextScreen
from energylens.tui.widgets.token_text import TokenText
from tests.tui.conftest import Open


@pytest.mark.parametrize("size", ["small", "large"])
async def test_a_text_is_walked_through_with_the_features_of_each_token(
    drive: Open, size: str, rich_path: Path, rich: Store
) -> None:
    run = rich.runs[0].info.run_id
    hardest = int(text_behaviour(rich, run)["text_id"][0])
    context = int(text_contexts(rich, run, hardest)["context_id"][0])
    tokens = context_tokens(rich, run, context)
    second = token_features(rich, run, int(tokens["token_index"][1]), k=60)
    async with drive(size, rich_path) as driver:
        await driver.press("7", "t")
        assert isinstance(driver.app.screen, TextScreen)
        await driver.settle()
        assert f"text {hardest}" in driver.text and "no shades" in driver.text
        await driver.press("right")
        first = second.row(0, named=True)
        assert f"{first['feature_id']}" in driver.text and "energy" in driver.text
        await driver.press("tab", "f")
        await driver.settle()
        wanted = f"shaded by {first['feature_id']} of {first['sae_id']}"
        await driver.until(wanted)
        shaded = [t.activation for text in driver.app.screen.query(TokenText) for t in text.tokens]
        assert any(value for value in shaded)
        ids = text_contexts(rich, run, hardest)["context_id"].to_list()
        other = second.row(1, named=True)
        await driver.press("down", "plus")
        assert f"shaded by {first['feature_id']}" in driver.lines[-2]
        assert f"{other['feature_id']} of" in driver.lines[-2]
        alone = [
            np.concatenate(
                [
                    context_tokens(rich, run, i, row["sae_id"], row["feature_id"])["activation"]
                    .fill_null(0.0)
                    .abs()
                    for i in ids
                ]
            )
            for row in (first, other)
        ]
        both = np.maximum(*(values / values.max() for values in alone))
        drawn = [t.activation for text in driver.app.screen.query(TokenText) for t in text.tokens]
        np.testing.assert_allclose([value or 0.0 for value in drawn], both, rtol=1e-5)
        await driver.press("plus")
        assert wanted in driver.lines[-2], "and by the first one alone again"
        await driver.press("plus", "tab")
        text = driver.app.screen.query(TokenText).first()
        assert text.has_focus and text.cursor == 1, "the cursor has stayed"
        assert size == "small" or "of the highest" in driver.lines[-2]
        await driver.press("tab", "enter")
        assert isinstance(driver.app.screen, FeatureScreen)
        await driver.press("escape", "escape")
        assert "hardest first" in driver.text


async def test_texts_of_one_category_are_listed(drive: Open, rich_path: Path, rich: Store) -> None:
    run = rich.runs[0].info.run_id
    n = len(text_behaviour(rich, run, in_category="b"))
    async with drive("small", rich_path) as driver:
        await driver.press("7", "f")
        await driver.until("Texts of which category?")
        await driver.press("down", "down", "enter")
        await driver.settle()
        assert f"{n} texts, hardest first · b" in driver.text


async def test_the_values_of_a_column_are_counted(drive: Open, rich_path: Path) -> None:
    async with drive("small", rich_path) as driver:
        await driver.press("2", "F")
        await driver.until("feature: 40 rows")
        await driver.press("escape")
        await driver.on_column("list", "top_category")
        await driver.press("F")
        await driver.until("category: 40 rows")
        assert "█" in driver.text


async def test_rows_and_the_screen_are_written_to_files(
    drive: Open, rich_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with drive("small", rich_path) as driver:
        await driver.press("2", "e", "enter", "enter")
        await driver.until("40 rows written to")
        rows = pl.read_csv(tmp_path / "features-1.csv")
        assert len(rows) == 40 and rows.columns[0] == "feature_id"
        await driver.press("e", "down", "enter", "enter")
        await driver.settle()
        assert pl.read_parquet(tmp_path / "features-1.parquet").equals(rows, null_equal=True) or (
            len(pl.read_parquet(tmp_path / "features-1.parquet")) == 40
        )
        await driver.press("e")
        await driver.type("screen png")
        await driver.press("enter", "enter")
        await driver.until("the screen written to")
        assert (tmp_path / "features-1.png").read_bytes().startswith(b"\x89PNG")
        await driver.press("e", "enter", "enter")
        await driver.settle()
        assert (tmp_path / "features-2.csv").exists(), "no file is written over"


async def test_a_cell_and_a_row_are_copied(drive: Open, rich_path: Path) -> None:
    async with drive("small", rich_path) as driver:
        await driver.press("2", "y")
        assert driver.app.clipboard.isdigit()
        await driver.press("Y")
        assert driver.app.clipboard.count("\t") == len(FEATURE_COLUMNS) - 1
        await driver.until("set-clipboard on")


def test_numbers_are_binned_and_words_counted() -> None:
    bins = frequencies(pl.Series([float(i) for i in range(120)]))
    assert [n for _, n in bins] == [10] * 12
    assert frequencies(pl.Series(["a", "b", "a", None])) == [("a", 2), ("b", 1), ("·", 1)]
    assert frequencies(pl.Series([1, 1, 2])) == [("1", 2), ("2", 1)]
    assert frequencies(pl.Series([], dtype=pl.Float64)) == []


async def test_a_long_error_can_be_read_and_copied(drive: Open) -> None:
    async with drive() as driver:
        tell = notify(driver.app.screen)
        tell(EnergyLensError("short"))
        await driver.hears("short")
        tell(EnergyLensError("it failed [bold]because[/] " + "of much " * 40))
        await driver.settle()
        assert "This did not work" in driver.text and "[bold]because[/]" in driver.text
        await driver.press("y")
        assert driver.app.clipboard.startswith("it failed [bold]")
        await driver.press("escape")
        assert "This did not work" not in driver.text


async def test_the_overview_says_what_is_there_and_what_is_missing(
    drive: Open, rich_path: Path
) -> None:
    async with drive("large", rich_path) as driver:
        assert "EFAS  lens, own, total, calibration" in driver.text
        assert "routing  2 routers, effects measured" in driver.text
    async with drive("large") as driver:
        assert "routing  no choices of routers" in driver.text


@pytest.mark.parametrize("size", ["small", "large"])
async def test_jobs_tell_what_other_processes_write(
    drive: Open, store_path: Path, tmp_path: Path, size: str
) -> None:
    path = Path(shutil.copytree(store_path, tmp_path / "half.lens"))
    run = StoreLayout(path).runs()[0]
    n = len(run.complete_shards())
    shutil.rmtree(run.complete_shards()[-1])
    async with drive(size, path) as driver:
        await driver.press("9")
        await driver.until("stopped")
        assert f"{n - 1} of {n} shards" in driver.text
        assert "the same ingest command goes on with it" in driver.text
        await driver.press("x")
        await driver.hears("another process writes this")
